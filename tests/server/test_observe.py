"""Set up in a process of its own, because the set-up is the process's."""

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from server.observe import configure

configure({arguments})
log = structlog.get_logger()
log.debug("too small to tell")
log.info("turn ended", tokens=3, name="Zoë")
logging.getLogger("library").info("too small to tell")
logging.getLogger("library").warning("pool is %s", "full")

def work():
    password = "hunter2"
    raise RuntimeError("broke")

try:
    work()
except RuntimeError:
    log.exception("work failed")
"""


def spoken(arguments: str) -> str:
    command = [sys.executable, "-c", PROGRAM.format(arguments=arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=30, check=True)
    assert done.stdout == ""
    return done.stderr


def test_each_event_is_a_json_line_where_no_person_watches() -> None:
    lines = [json.loads(line) for line in spoken("'info'").splitlines()]
    assert all(line.pop("timestamp").endswith("Z") for line in lines)
    traceback = lines[2].pop("exception")
    assert lines == [
        {"tokens": 3, "name": "Zoë", "event": "turn ended", "level": "info"},
        {"logger": "library", "event": "pool is full", "level": "warning"},
        {"event": "work failed", "level": "error"},
    ]
    assert traceback.endswith("RuntimeError: broke")
    assert "hunter2" not in traceback


def test_text_holds_the_same_and_no_local_variables() -> None:
    text = spoken("'info', 'text'")
    assert [word in text for word in ("turn ended", "pool is full", "work failed", "RuntimeError: broke")] == [True] * 4
    assert "too small" not in text
    assert "hunter2" not in text


def test_the_level_is_the_least_that_is_told() -> None:
    assert "turn ended" not in spoken("'warn', 'json'")
    assert "too small to tell" in spoken("'debug', 'json'")
