"""How the process speaks: one line an event on standard error, as JSON or, for people, as text."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Generator
from typing import Literal

import msgspec


@contextlib.contextmanager
def _hidden(name: str) -> Generator[None]:
    """As if this package were not installed."""
    there = sys.modules.pop(name, None)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if there is not None:
            sys.modules[name] = there


# It would load rich, 4 MB, for tracebacks that are not shown that way here.
with _hidden("rich"):
    import structlog
    from structlog.typing import EventDict, Processor, WrappedLogger

_LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}


def configure(level: str = "info", form: Literal["json", "text"] | None = None) -> None:
    """Sets up structlog, and the standard library's logging of our dependencies to look the same.

    Without `form` it is text on a terminal and JSON elsewhere.
    """
    number = _LEVELS[level]
    is_text = sys.stderr.isatty() if form is None else form == "text"
    first: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = _text() if is_text else [structlog.processors.format_exc_info, _json]
    structlog.configure(
        processors=[*first, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *first],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Below that, libraries tell every step and some of them the values of a statement.
    root.setLevel(max(number, logging.WARNING))


def _text() -> list[Processor]:
    # Tracebacks without local variables, which hold prompts and keys.
    return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]


_encoder = msgspec.json.Encoder(enc_hook=str)


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return _encoder.encode(event).decode()
