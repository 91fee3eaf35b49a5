"""What the reference says of all routes together, and the form of what it says of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rest_compat.shapes import JsonObject

JSON = "application/json"
EVENTS = "text/event-stream"

INTRODUCTION = """\
The documented `/v1` routes and what OpenAI's clients use, over the same operations as the GraphQL API at `/graphql`.

Routes under `/v1` also answer under `/llm/v1` and `/api/llm/v1`, those under `/auth` also under `/llm/auth`.

An object that is answered alone carries itself once more as `data`. An error is
`{"error": {"message", "type", "code", "param"}, "message", "code", "request_id"}`. What belongs to another is as good as absent:
404. Every counted answer says in `X-RateLimit-Limit`, `-Remaining` and `-Reset` how its caller stands.

Streams are server-sent events: the schema given for `text/event-stream` is that of one event's `data`. Completions end with
`data: [DONE]`."""

# Paths that begin so stand together.
AREAS = (
    ("/v1/chat", "Completions"),
    ("/v1/completions", "Completions"),
    ("/v1/embeddings", "Completions"),
    ("/v1/generate", "Completions"),
    ("/v1/generations", "Generations"),
    ("/v1/requests", "Generations"),
    ("/v1/public/shares", "Shares"),
    ("/v1/shares", "Shares"),
    ("/share", "Shares"),
    ("/v1/conversations/{id}/share", "Shares"),
    ("/v1/conversations/{id}/branches", "Branches"),
    ("/v1/conversations/{id}/export", "Export and import"),
    ("/v1/conversations/{id}/", "Items"),
    ("/v1/users/me/export", "Export and import"),
    ("/v1/users/me/import", "Export and import"),
    ("/v1/users/me/settings", "Settings"),
    ("/v1/users/me/memories", "Settings"),
    ("/v1/users/tokens", "Keys"),
    ("/v1/users/provider-keys", "Keys"),
    ("/auth/api-keys", "Keys"),
    ("/llm/auth/api-keys", "Keys"),
    ("/auth", "Sign-in"),
    ("/v1/users", "People"),
    ("/v1/usage", "Usage and budgets"),
    ("/v1/budgets", "Usage and budgets"),
    ("/v1/admin/usage", "Usage and budgets"),
    ("/v1/admin/budgets", "Usage and budgets"),
    ("/v1/schema", "Models"),
    ("/v1/providers", "Models"),
    ("/v1/mcp", "Tools"),
    ("/v1/admin/providers", "Administration of models"),
    ("/v1/admin/mcp", "Tools"),
    ("/v1/approvals", "Tools"),
    ("/mcp", "Tools"),
    ("/v1/admin/models", "Administration of models"),
    ("/v1/admin/providers", "Administration of models"),
    ("/v1/admin/mcp", "Tools"),
    ("/v1/approvals", "Tools"),
    ("/v1/mcp-tools", "Tools"),
    ("/v1/tool", "Tools"),
    ("/v1/mcp", "Tools"),
    ("/mcp", "Tools"),
    ("/media", "Files"),
    ("/api/media", "Files"),
    ("/health", "Health"),
    ("/ready", "Health"),
    ("/version", "Health"),
    ("/v1/healthz", "Health"),
    ("/v1/readyz", "Health"),
    ("/v1/version", "Health"),
    ("/openapi.json", "This document"),
)

# What stands for an id in the examples, by its own name, else by the noun before it in a path.
SAMPLES: Mapping[str, str] = {
    "conversations": "conv_06h2ffy6txq60sf9v9ye3253",
    "sessions": "conv_06h2ffy6txq60sf9v9ye3253",
    "items": "msg_06h2ffy6v2fmnzg3czf8ezje",
    "messages": "msg_06h2ffy6v2fmnzg3czf8ezje",
    "generations": "gen_06h2ffy6v2rqv9cmpppmvh1z",
    "requests": "gen_06h2ffy6v2rqv9cmpppmvh1z",
    "branches": "EDIT_1",
    "projects": "proj_06h2ffy6v2rqv9cp2gqdx2yp",
    "shares": "shr_06h2ffy6v2rqv9cmxywzn2td",
    "slug": "b7Qm2xkT9wZr4LpN8sVcYg",
    "memories": "mem_06h2ffy6v2rqv9cnv7mkmh5c",
    "api-keys": "key_06h2ffy6v2rqv9cn3qvcvzha",
    "tokens": "key_06h2ffy6v2rqv9cn3qvcvzha",
    "provider-keys": "openai",
    "budgets": "user_06h2ffy6v2w7mfej3ttb82hx",
    "period": "month",
    "media": "jan_06h2ffy6v2rqv9cmpppmvh1z",
    "ticket": "a-ticket-of-an-earlier-answer",
    "approvals": "appr_06h2ffy6v2rqv9cmpppmvh1z",
    "providers": "prov_06h2ffy6v2rqv9cmpppmvh1z",
    "tool_id": "calculator",
    "tool_key": "calculator",
    "refresh_token": "rt_of_an_earlier_answer",
}


@dataclass(frozen=True, slots=True)
class Note:
    """`says`: a sentence, and more behind an empty line. `example` is a body, for GET a query. `body` where the table has any
    object. `media` where the answer is not the table's response as JSON. `is_merged`: it carries itself as `data`.
    `is_maybe_empty`: 204 for a client that does not talk JSON."""

    says: str
    example: JsonObject | None = None
    status: int = 200
    body: type | None = None
    media: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    is_merged: bool = False
    is_maybe_empty: bool = False
    accepts: tuple[str, ...] = (JSON,)
    answers: str = "Done"
