"""The route table as an OpenAPI 3.1 document: made when it is first asked for, and then kept."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from importlib import metadata
from types import NoneType

import msgspec

from resolvers.access import PUBLIC
from rest_compat.endpoint import Ask, Operation, Reply
from rest_compat.errors import ErrorAnswer
from rest_compat.notes import NOTES
from rest_compat.reference import AREAS, INTRODUCTION, JSON, SAMPLES, Note
from rest_compat.shapes import JsonObject

REFERENCE = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"{(\w+)(?::path)?}")
_WORDS = re.compile(r"[a-z0-9]+")
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
_ERRORS = {
    "400": "Something in the request is wrong; `error.param` names it",
    "401": "The credential is missing, wrong, or no longer holds",
    "403": "The credential does not allow this",
    "404": "It is not there, or it is another's",
    "409": "It has changed meanwhile, or is in the way",
    "422": "The idempotency key was used for something else",
    "429": "Too many requests, or no budget left; `Retry-After` says when to come back",
    "default": "Whatever else went wrong, in the same form",
}
_SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token (`POST /llm/auth/guest-login`, `POST /v1/users/login`) or an API key `sk_…`",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key `sk_…`"},
}
_HEADERS = {
    "IdempotencyKey": ("Idempotency-Key", "A request under a key has its effect once, however often it is sent"),
    "IfMatch": ("If-Match", "The `ETag` that was seen; the change is refused (409) when somebody was faster"),
    "LastEventId": ("Last-Event-ID", "The `id` of the last event seen; the next one is sent first"),
}

Prefixes = Callable[[str], Sequence[str]]


def described(operations: Sequence[Operation], prefixes: Prefixes) -> Callable[[Ask], Awaitable[Reply]]:
    """The operation that answers with the document of these operations."""

    @functools.cache
    def written() -> tuple[bytes, bytes]:
        whole = msgspec.json.encode(document(operations, prefixes))
        return whole, f'"{hashlib.sha256(whole).hexdigest()[:32]}"'.encode()

    async def describe(ask: Ask) -> Reply:
        """This document."""
        whole, etag = written()
        headers = [(b"etag", etag), (b"cache-control", b"no-cache")]
        if any(name == b"if-none-match" and etag in value for name, value in ask.headers):
            return Reply(b"", 304, headers)
        return Reply(whole, headers=headers)

    return describe


def document(operations: Sequence[Operation], prefixes: Prefixes) -> JsonObject:
    """The whole document, as JSON can hold it."""
    schemas = Schemas(operations)
    paths: dict[str, JsonObject] = defaultdict(dict)
    for one, name in zip(operations, _distinct(operations), strict=True):
        at = paths[_PARAMETER.sub(r"{\1}", one.path)]
        at[one.method.lower()] = {"operationId": name, **_operation(one, schemas)}
        if len(prefixes(one.path)) > 1:
            at["servers"] = [{"url": prefix or "/"} for prefix in prefixes(one.path)]
    tags = dict.fromkeys(_area(one.path) for one in operations)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Loquent",
            "version": metadata.version("loquent"),
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in tags],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": _SECURITY,
            "parameters": {key: _header(name, says) for key, (name, says) in _HEADERS.items()},
            "responses": {
                f"Error{status.title()}": {
                    "description": says,
                    "content": {JSON: {"schema": schemas.of(ErrorAnswer)}},
                }
                for status, says in _ERRORS.items()
            },
        },
    }


def note_of(one: Operation) -> Note:
    """What the reference says of an operation; where it says nothing, the docstring of its handler does."""
    return NOTES.get(f"{one.method} {one.path}") or Note(inspect.cleandoc(one.says))


class Schemas:
    """JSON schemas of all types that the operations take and give."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        types = dict.fromkeys([ErrorAnswer, *(kind for one in operations for kind in _types(one))])
        found, components = msgspec.json.schema_components(list(types), schema_hook=_any_value, ref_template=REFERENCE)
        self._of = dict(zip(types, found, strict=True))
        self.components = {_plain(name): _tidy(schema) for name, schema in components.items()}

    def of(self, *kinds: object) -> JsonObject:
        found = [_tidy(self._of[kind]) for kind in kinds]
        return found[0] if len(found) == 1 else {"anyOf": found}

    def fields(self, kind: object) -> JsonObject:
        """The schema itself of what `of` refers to."""
        schema = self.of(kind)
        reference = schema.get("$ref")
        return self.components[str(reference).rpartition("/")[2]] if reference else schema


def _types(one: Operation) -> Iterator[object]:
    if one.request not in (None, bytes):
        yield one.request
    if one.response is not NoneType:
        yield one.response
    note = note_of(one)
    if note.body is not None:
        yield note.body
    for kinds in note.media.values():
        yield from kinds


def _any_value(kind: type) -> JsonObject:
    if kind is object:
        return {"description": "Any value"}
    raise NotImplementedError


def _plain(name: str) -> str:
    """Names of generic types and of those that share a name, as every generator of code can take them."""
    return name.removeprefix("rest_compat.").replace(".", "_").strip("_")


def _tidy(schema: object) -> JsonObject:
    """The same with plain names, and with descriptions as text that flows."""
    if not isinstance(schema, Mapping):
        raise TypeError("a schema is an object")
    return {key: _tidy_value(key, value) for key, value in schema.items()}


def _tidy_value(key: str, value: object) -> object:
    if key == "$ref" and isinstance(value, str):
        place, _, name = value.rpartition("/")
        return f"{place}/{_plain(name)}"
    if key == "description" and isinstance(value, str):
        return _flowing(value)
    if isinstance(value, Mapping):
        return _tidy(value)
    if isinstance(value, list):
        return [_tidy(one) if isinstance(one, Mapping) else one for one in value]
    return value


def _flowing(text: str) -> str:
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(one if one.startswith("|") else " ".join(one.split()) for one in paragraphs)


def _operation(one: Operation, schemas: Schemas) -> JsonObject:
    note = note_of(one)
    summary, _, rest = _flowing(note.says).partition("\n\n")
    found: JsonObject = {
        "tags": [_area(one.path)],
        "summary": summary.rstrip("."),
        "description": rest or summary,
        "parameters": [*_path_parameters(one.path), *_query(one, note, schemas), *_header_parameters(one)],
        "responses": _responses(one, note, schemas),
        "security": [{}] if one.scope == PUBLIC else [{name: [one.scope]} for name in _SECURITY],
    }
    body = _body(one, note, schemas)
    return found | {"requestBody": body} if body else found


def _identifier(one: Operation) -> str:
    words = _WORDS.findall(_PARAMETER.sub(r"by \1", one.path).lower())
    return one.method.lower() + "".join(word.title() for word in words if word != "v1")


def _distinct(operations: Sequence[Operation]) -> list[str]:
    """Names by which generated code calls the operations; of several that would share one, the later have a number."""
    counts: Counter[str] = Counter()
    found = []
    for one in operations:
        name = _identifier(one)
        counts[name] += 1
        found.append(name if counts[name] == 1 else f"{name}{counts[name]}")
    return found


def _area(path: str) -> str:
    for start, name in AREAS:
        if path.startswith(start):
            return name
    words = [word for word in path.split("/") if word and word != "v1"]
    return words[0].replace("-", " ").capitalize()


def _path_parameters(path: str) -> Iterator[JsonObject]:
    for found in _PARAMETER.finditer(path):
        before = path[: found.start()].rstrip("/").rpartition("/")[2]
        yield {
            "name": found[1],
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "example": SAMPLES.get(found[1]) or SAMPLES.get(before, "demo"),
        }


def _query(one: Operation, note: Note, schemas: Schemas) -> Iterator[JsonObject]:
    if one.method != "GET" or one.request is None:
        return
    schema = schemas.fields(one.request)
    properties, required = schema["properties"], schema["required"]
    assert isinstance(properties, dict)
    assert isinstance(required, list)
    for name, kind in properties.items():
        found: JsonObject = {"name": name, "in": "query", "required": name in required, "schema": _without_null(kind)}
        if kind.get("type") == "object":
            found |= {"style": "deepObject", "explode": True}
        if isinstance(note.example, Mapping) and name in note.example:
            found["example"] = note.example[name]
        yield found


def _without_null(kind: JsonObject) -> JsonObject:
    """A query string has no null: a parameter that may be null may be left out."""
    options = kind.get("anyOf")
    if not isinstance(options, list):
        return kind
    rest = [one for one in options if one != {"type": "null"}]
    known: JsonObject = {key: value for key, value in kind.items() if key not in ("anyOf", "default")}
    return known | (rest[0] if len(rest) == 1 else {"anyOf": rest})


def _header_parameters(one: Operation) -> Iterator[JsonObject]:
    names = {
        "IdempotencyKey": one.method == "POST" and one.scope != PUBLIC,
        "IfMatch": one.method == "PATCH" and "/conversations/" in one.path and "share" not in one.path,
        "LastEventId": one.path.endswith("/events"),
    }
    for name, has_it in names.items():
        if has_it:
            yield {"$ref": f"#/components/parameters/{name}"}


def _header(name: str, says: str) -> JsonObject:
    return {"name": name, "in": "header", "required": False, "description": says, "schema": {"type": "string"}}


def _body(one: Operation, note: Note, schemas: Schemas) -> JsonObject | None:
    if one.method not in _BODY_METHODS or one.request is None:
        return None
    if one.request is bytes:
        return {"required": True, "content": {name: {} for name in note.accepts}}
    kind = note.body or one.request
    content: JsonObject = {"schema": schemas.of(kind)}
    if note.example is not None:
        content["example"] = note.example
    return {"required": bool(schemas.fields(kind).get("required")), "content": {JSON: content}}


def _responses(one: Operation, note: Note, schemas: Schemas) -> JsonObject:
    found: JsonObject = {}
    if one.response is NoneType or note.is_maybe_empty:
        found["204"] = {"description": "Done; there is nothing to say"}
    if one.response is not NoneType:
        media = note.media or {JSON: (one.response,)}
        content = {name: {"schema": schemas.of(*kinds)} for name, kinds in media.items()}
        if note.is_merged:
            itself = schemas.of(one.response)
            again = {"type": "object", "properties": {"data": itself}, "required": ["data"]}
            content[JSON] = {"schema": {"allOf": [itself, again]}}
        found[str(note.status)] = {"description": note.answers, "content": content}
    if one.has_plain_errors:
        return found | {"default": {"description": "What is wrong, as a text", "content": {"text/plain": {}}}}
    for status in _ERRORS:
        if _may_answer(status, one):
            found[status] = {"$ref": f"#/components/responses/Error{status.title()}"}
    return found


def _may_answer(status: str, one: Operation) -> bool:
    match status:
        case "400":
            return one.request is not None or "{" in one.path
        case "401" | "403":
            return one.scope != PUBLIC
        case "404":
            return "{" in one.path
        case "409":
            return one.method != "GET" and one.scope != PUBLIC
        case "422":
            return one.method == "POST" and one.scope != PUBLIC
        case "429":
            return one.is_counted
        case _:
            return True
