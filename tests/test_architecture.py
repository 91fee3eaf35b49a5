"""The walls of the house: five floors, imports only go down, small files, no drawer for odds and ends."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    "server": {"graph", "rest_compat", "resolvers", "engine", "db"},
    "graph": {"resolvers", "engine", "db"},
    "rest_compat": {"resolvers", "engine", "db"},
    "resolvers": {"engine", "db"},
    "engine": {"db"},
    "db": set(),
}
FACES = ("graph", "rest_compat")
# What a face may know of the floors below the resolvers: rows and events to read, a client to watch, the failure it must name,
# a rule for text.
READABLE = (
    "db.models",
    "engine.events",
    "engine.ring.Batch",
    "engine.watch",
    "db.base.StorageError",
    "db.base.is_storable",
)
# Who may use a library at all.
DOORS = {
    "aiohttp": ("engine/exchange.py", "engine/http.py"),
    "alembic": ("db/",),
    "asyncpg": ("db/",),
    "graphql": ("graph/",),
    "httpx": (),
    "httpx2": ("engine/tools/", "server/client.py"),
    "jsonschema": ("engine/tools/schemas.py",),
    # Large, so what imports it is imported only where there is a server of tools.
    "mcp": ("engine/tools/",),
    "mcp_types": ("engine/tools/",),
    "pydantic": ("engine/tools/connection.py", "server/"),
    "requests": (),
    "sqlalchemy": ("db/",),
    "starlette": ("engine/watch.py", "graph/", "rest_compat/", "server/"),
    "strawberry": ("graph/",),
    "uvicorn": ("server/",),
    "xllamacpp": ("engine/providers/llama_cpp.py", "engine/providers/llama_engine.py"),
}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def _files() -> list[Path]:
    return sorted(path for package in FLOORS for path in (ROOT / package).rglob("*.py"))


FILES = _files()
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


def _described() -> list[Path]:
    """Where types and fields of the graph are."""
    return [path for path in FILES if path.is_relative_to(ROOT / "graph") and "@strawberry." in path.read_text("utf-8")]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> Iterator[str]:
    """Each imported thing by its full dotted name."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports by a relative name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_within(name: str, *modules: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def test_there_is_a_house() -> None:
    assert len(FILES) > 30


@each_file
def test_imports_only_go_down(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    above = set(FLOORS) - FLOORS[floor] - {floor}
    assert [name for name in _imports(path) if _is_within(name, *above)] == []


@each_file
def test_a_face_reads_rows_and_events_and_nothing_else_below_the_resolvers(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] in FACES:
        below = [name for name in _imports(path) if _is_within(name, "db", "engine")]
        assert [name for name in below if not _is_within(name, *READABLE)] == []


@each_file
def test_a_library_comes_in_by_its_own_door(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    closed = [library for library, doors in DOORS.items() if not place.startswith(doors or ("nowhere",))]
    used = [name for name in _imports(path) if _is_within(name, *closed)]
    # An error of the database may be renamed where it is met.
    assert [name for name in used if not _is_within(name, "sqlalchemy.exc")] == []


@pytest.mark.parametrize("path", _described(), ids=lambda path: path.stem)
def test_what_strawberry_reads_is_no_text(path: Path) -> None:
    """It would take each annotation apart several times: an eighth of the time until the first answer."""
    assert "__future__.annotations" not in _imports(path)


@each_file
def test_no_file_has_more_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@each_file
def test_no_function_has_more_than_50_lines(path: Path) -> None:
    if "versions" in path.parts:
        # A migration is a list of tables; cutting it up would hide that.
        return
    functions = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f.name for f in functions if (f.end_lineno or f.lineno) - f.lineno >= 50] == []


@each_file
def test_nothing_is_named_for_being_left_over(path: Path) -> None:
    assert DRAWERS.isdisjoint(path.relative_to(ROOT).with_suffix("").parts)


@each_file
def test_middleware_is_pure_asgi(path: Path) -> None:
    assert "BaseHTTPMiddleware" not in path.read_text(encoding="utf-8")


@each_file
def test_only_the_settings_read_the_environment(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() in ("server/settings.py", "server/model_list.py"):
        return
    names = {node.attr for node in ast.walk(_tree(path)) if isinstance(node, ast.Attribute)}
    assert names.isdisjoint({"environ", "getenv"})
