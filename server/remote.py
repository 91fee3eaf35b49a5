"""What the commands share that talk to a running server: where it is, who asks, and how failures are told."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Annotated

import typer

from server import console

Url = Annotated[str, typer.Option(envvar="LOQUENT_URL", help="Address of the server.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="LOQUENT_TOKEN", help="A token or an API key (sk_…); a guest's by default.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@contextlib.contextmanager
def told(failure: type[Exception]) -> Generator[None]:
    """Ends the program with a sentence for failures of this kind, and quietly when a person has interrupted it."""
    try:
        yield
    except failure as error:
        console.fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
