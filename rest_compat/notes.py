"""What the reference says of each route beside what the table knows: a sentence, an example, and how it is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from resolvers.parameters import Parameters
from rest_compat.chat import StreamOptions
from rest_compat.completions import Completion, CompletionChunk
from rest_compat.embeddings import EmbeddingRequest
from rest_compat.events import EventObject
from rest_compat.exports import NDJSON
from rest_compat.generate import GenerateObject, ModelSelected
from rest_compat.generation_events import GenerationEventObject
from rest_compat.reference import EVENTS, JSON, SAMPLES, Note
from rest_compat.shapes import JsonObject
from rest_compat.shared import PublicShare, ShareEvent
from rest_compat.texts import TextCompletion


class ChatBody(Parameters, frozen=True, kw_only=True):
    """What is known of a completion; other fields go to the model as they are."""

    messages: list[JsonObject]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class TextBody(Parameters, frozen=True, kw_only=True):
    """What is known of a completion of text; other fields go to the model as they are."""

    prompt: str | list[str]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class SettingsChange(msgspec.Struct, frozen=True):
    """What is absent stays, in every section."""

    memory_config: JsonObject = {}
    profile_settings: JsonObject = {}
    advanced_settings: JsonObject = {}
    enable_trace: bool | None = None
    enable_tools: bool | None = None
    preferences: JsonObject = {}


def _one(says: str, example: JsonObject | None = None) -> Note:
    return Note(says, example, is_merged=True)


def _made(says: str, example: JsonObject | None = None) -> Note:
    return Note(says, example, 201, is_merged=True, answers="Made")


def _gone(says: str) -> Note:
    return Note(says, is_merged=True, is_maybe_empty=True, answers="Gone, for a client that talks JSON")


def _told(says: str, kind: object, example: JsonObject | None = None) -> Note:
    return Note(says, example, media={EVENTS: (kind,)}, answers="Events, as they happen")


_NAME = "demo"
_BYTES = "application/octet-stream"
_ANY_FILE = {"*/*": (str,)}
_MCP = "Answer a client of MCP: list and call your tools, search and read your conversations"
_RPC: JsonObject = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
_DECIDE = "Decide about a tool: whether it is on, what is kept from it, what needs leave"
# The smallest of all pictures.
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_HELLO: JsonObject = {"role": "user", "content": "Hello!"}
_PERSON: JsonObject = {"email": "ada@example.org", "password": "correct horse battery", "display_name": "Ada"}
_KEY: JsonObject = {"name": "nightly job", "scopes": ["read", "write"], "expires_in_days": 30}
_CHANGE: JsonObject = {"title": "Rivers of Europe", "metadata": {"topic": "geography"}}
_SHARE_PAGE = {JSON: (PublicShare,), "text/html": (str,)}


def _of_items(noun: Literal["items", "messages"]) -> dict[str, Note]:
    all_of_them = f"/v1/conversations/{{id}}/{noun}"
    one = f"{all_of_them}/{{item_id}}"
    return {
        f"POST {all_of_them}": Note(
            "Add a message, and start a reply to it.\n\nA user's message is replied to unless `generate` is false; the answer "
            "comes at once and names the generation. A list of `items` is only stored, and answered (200) as a list.",
            {**_HELLO, "model": "demo"}, 201, is_merged=True, answers="Stored; `generation_id` names the reply's run",
        ),
        f"GET {all_of_them}": Note("List the items along a branch, oldest first unless `order` says otherwise", {"limit": 10}),
        f"GET {one}": _one("Read one item"),
        f"PATCH {one}": _one("Change an item in place", {"content": "Hello again!"}),
        f"DELETE {one}": _gone("Take an item off the active branch; the line that had it is kept as another branch"),
        f"POST {one}/edit": Note(
            "Say it otherwise: the conversation forks at this item", {"content": "Hello, you!", "regenerate": True},
        ),
        f"POST {one}/regenerate": Note("Ask for another reply; with a body, answered when it is there", {"model": "demo"}),
        f"POST {one}/rating": _one("Rate a reply; null takes the rating back", {"rating": "like"}),
    }  # fmt: skip


NOTES: Mapping[str, Note] = {
    "POST /v1/chat/completions": Note(
        "Complete a chat.\n\nWith `stream`, the same as chunks and `[DONE]`. The run ends with its client, unless it has an "
        "`Idempotency-Key`: then it is stored, and may be asked for again.",
        {"model": "demo", "messages": [_HELLO]}, body=ChatBody,
        media={JSON: (Completion,), EVENTS: (CompletionChunk,)}, answers="The answer of the model",
    ),
    "POST /v1/completions": Note(
        "Complete a text, as the older wire has it; with `stream`, as chunks and `[DONE]`",
        {"model": "demo", "prompt": "Rivers are"}, body=TextBody,
        media={JSON: (TextCompletion,), EVENTS: (TextCompletion,)}, answers="The text of the model",
    ),
    "POST /v1/embeddings": Note(
        "Turn texts into vectors, by a model that can", {"model": "text-embedding-3-small", "input": ["rivers", "lakes"]},
        body=EmbeddingRequest,
    ),
    "POST /v1/generate": Note(
        "Generate from a prompt, alone or as the next turn of a session",
        {"modality": "text", "input": {"prompt": "Tell me about rivers"}, "model": "auto"},
        media={JSON: (GenerateObject,), EVENTS: (ModelSelected, CompletionChunk, GenerateObject)},
    ),
    "GET /v1/generations": Note("List your generations, the newest first", {"limit": 10}),
    "GET /v1/generations/{id}": _one("Read a generation: its state, text, usage and cost"),
    "POST /v1/generations/{id}/cancel": _one("Stop a generation, wherever it runs; what it had said is kept"),
    "GET /v1/generations/{id}/events": _told(
        "Follow a generation from any of its events.\n\nThe number of an event is its `id`: come back with it in "
        "`Last-Event-ID` or `starting_after`, and the next event comes first.", GenerationEventObject, {"starting_after": 2},
    ),
    "GET /v1/requests/{id}/status": Note("Where a generation stands"),
    "POST /v1/requests/{id}/cancel": Note("Stop a generation"),
    "POST /v1/conversations": _one("Begin a conversation", {"title": "Rivers", "items": [_HELLO]}),
    "GET /v1/conversations": Note("List your conversations, those that changed last first", {"limit": 10, "archived": "all"}),
    "DELETE /v1/conversations": _one("Delete all your conversations"),
    "POST /v1/conversations/bulk-delete": _one(
        "Delete several conversations", {"conversation_ids": [SAMPLES["conversations"]]}
    ),
    "GET /v1/conversations/{id}": _one("Read a conversation with its newest items"),
    "PATCH /v1/conversations/{id}": _one("Change a conversation; metadata is merged into what is there", _CHANGE),
    "POST /v1/conversations/{id}": _one("Change a conversation; metadata takes the place of what was there", _CHANGE),
    "DELETE /v1/conversations/{id}": _gone("Delete a conversation"),
    **_of_items("items"),
    **_of_items("messages"),
    "GET /v1/conversations/{id}/branches": Note("List the branches of a conversation"),
    "POST /v1/conversations/{id}/branches": _made("Fork a conversation into a named branch", {"name": "second-thoughts"}),
    "GET /v1/conversations/{id}/branches/{name}": _one("Read a branch"),
    "POST /v1/conversations/{id}/branches/{name}/activate": Note("Go on along this branch"),
    "DELETE /v1/conversations/{id}/branches/{name}": Note("Delete a branch that is not the active one"),
    "POST /v1/projects": _made("Make a folder for conversations", {"name": "Geography", "instruction": "Answer briefly."}),
    "GET /v1/projects": Note("List your projects", {"limit": 10}),
    "GET /v1/projects/{id}": _one("Read a project"),
    "PATCH /v1/projects/{id}": _one("Change a project", {"is_favorite": True}),
    "DELETE /v1/projects/{id}": _one("Delete a project; its conversations stay"),
    "GET /v1/conversations/{id}/export": Note(
        "Take a conversation along as Markdown, as JSON, or in OpenAI's chat format", {"format": "json"},
        media={JSON: (object,), "text/markdown": (str,)}, answers="A file",
    ),
    "GET /v1/users/me/export": Note(
        "Take everything along: a line of JSON for each conversation", media={NDJSON.decode(): (str,)}, answers="A file",
    ),
    "POST /v1/users/me/import": Note(
        "Bring conversations: an archive of ours, ChatGPT's `conversations.json`, or LibreChat's export",
        is_merged=True, accepts=(NDJSON.decode(), JSON),
    ),
    "GET /v1/search": Note("Find what was said", {"q": "rivers"}),
    "GET /v1/events": _told("See what changes in all your conversations, from any device", EventObject),
    "GET /v1/models": Note("List the models", {"limit": 10}),
    "GET /v1/models/{id:path}": Note("Read a model; its name may hold slashes"),
    "GET /v1/models/catalogs": Note("List the models with all that is known of them"),
    "GET /v1/models/catalogs/{id:path}": _one("Read all that is known of a model"),
    "GET /v1/models/loaded": Note("List the models in memory, the one loaded first first"),
    "GET /v1/models/{id:path}/status": Note("Say whether a model is in memory, and where in the line it stands"),
    "POST /v1/models/{id:path}/load": Note(
        "Bring a model into memory: 200 when it is there, 202 while it comes", {"wait": True, "use_fallback": False}
    ),
    "POST /v1/models/{id:path}/unload": Note(
        "Free the memory of a model; one that is busy or pinned is refused", {"force": False}
    ),
    "GET /v1/models/providers": Note("List who serves models here"),
    "GET /v1/providers": Note("List the providers that can be set up, and which are"),
    "GET /v1/schema": Note("The parameters of a model as a JSON Schema", {"model": "demo"}),
    "POST /auth/guest-login": Note("Sign in as a guest", status=201, answers="Signed in"),
    "POST /auth/refresh": Note("Trade a refresh token for a new pair", {"refresh_token": SAMPLES["refresh_token"]}),
    "POST /auth/refresh-token": Note("Trade a refresh token for a new pair", {"refresh_token": SAMPLES["refresh_token"]}),
    "GET /auth/refresh-token": Note("Trade the refresh token in the `Authorization` header for a new pair"),
    "POST /auth/revoke": Note("End a session by one of its tokens", {"refresh_token": SAMPLES["refresh_token"]}),
    "POST /auth/logout": Note("End the session of this token"),
    "GET /auth/logout": Note("End the session of this token"),
    "POST /auth/upgrade": Note("Make a guest a person, who keeps everything", _PERSON),
    "GET /auth/me": _one("Who this credential stands for"),
    "POST /auth/validate": Note("Whether this credential holds, and who it stands for"),
    "POST /v1/users/register": _made("Register with an email address and a password", _PERSON),
    "POST /v1/users/login": Note("Sign in with a password", {key: _PERSON[key] for key in ("email", "password")}),
    "GET /v1/users/me": _one("Read your profile"),
    "PATCH /v1/users/me": _one("Change your profile", {"display_name": "Ada", "preferred_model": "demo"}),
    "POST /auth/api-keys": _made("Make an API key; it is shown this once", _KEY),
    "GET /auth/api-keys": Note("List your API keys", {"limit": 10}),
    "DELETE /llm/auth/api-keys/{id}": _one("Revoke an API key"),
    "DELETE /auth/api-keys/{id}": Note("Revoke an API key"),
    "POST /v1/users/tokens": Note("Make an API key; it is shown this once", _KEY, 201, answers="Made"),
    "GET /v1/users/tokens": Note("List the API keys that can be used"),
    "DELETE /v1/users/tokens/{id}": Note("Revoke an API key"),
    "POST /v1/users/provider-keys": _made(
        "Bring your own key for an upstream; it is sealed, and never shown again",
        {"provider": SAMPLES["provider-keys"], "api_key": "an-upstream-key-of-your-own"},
    ),
    "GET /v1/users/provider-keys": Note("List the upstreams that you have brought a key for"),
    "DELETE /v1/users/provider-keys/{provider}": Note("Take back your key for an upstream"),
    "POST /v1/conversations/{id}/share": _made("Show a conversation to whoever has the link", {"title": "Rivers"}),
    "GET /v1/conversations/{id}/shares": Note("List the links to a conversation"),
    "PATCH /v1/conversations/{id}/shares/{share_id}": _one("Give a link another title", {"title": "Great rivers"}),
    "DELETE /v1/conversations/{id}/shares/{share_id}": _gone("Take back a link"),
    "GET /v1/shares": Note("List your links", {"limit": 10}),
    "PATCH /v1/shares/{share_id}": _one("Give a link another title", {"title": "Great rivers"}),
    "DELETE /v1/shares/{share_id}": _gone("Take back a link"),
    "GET /v1/public/shares/{slug}": Note(
        "Read what was shared; as a page where HTML is asked for", media=_SHARE_PAGE, is_merged=True
    ),
    "GET /share/{slug}": Note(
        "Read what was shared, at its short address; as a page where HTML is asked for", media=_SHARE_PAGE, is_merged=True
    ),
    "GET /v1/public/shares/{slug}/events": _told("See what was shared grow", ShareEvent),
    "POST /v1/public/shares/{slug}/feedback": _one("Say whether it was of use", {"rating": "like"}),
    "POST /v1/public/shares/{slug}/fork": _made("Go on with a copy of your own"),
    "POST /v1/sessions": _made("Begin a session", {"title": "Rivers", "system_prompt": "Answer briefly."}),
    "GET /v1/sessions": Note("List your sessions", {"limit": 10}),
    "GET /v1/sessions/{id}": _one("Read a session with its newest messages"),
    "PUT /v1/sessions/{id}": _one("Change a session", {"title": "Great rivers"}),
    "DELETE /v1/sessions/{id}": _one("Close a session"),
    "POST /v1/sessions/{id}/reset": _one("Forget what was said in a session"),
    "POST /v1/users/me/memories": _made("Have something remembered in every conversation", {"text": "I live in Bern."}),
    "GET /v1/users/me/memories": Note("List what is remembered"),
    "DELETE /v1/users/me/memories/{id}": _gone("Forget one thing"),
    "GET /v1/users/me/settings": _one("Read how you want to be answered"),
    "PATCH /v1/users/me/settings": Note(
        "Say how you want to be answered", {"profile_settings": {"nick_name": "Ada"}}, body=SettingsChange, is_merged=True
    ),
    "GET /v1/users/me/settings/preferences": _one("Read what your clients have kept for themselves"),
    "PATCH /v1/users/me/settings/preferences": _one("Keep something for your clients", {"preferences": {"theme": "dark"}}),
    "GET /v1/usage": Note("What you have used", {"by": "day,model", "from": "2026-01-01"}),
    "GET /v1/budgets": Note("What you may spend"),
    "GET /v1/admin/usage": Note("What everybody has used", {"by": "user"}),
    "GET /v1/admin/budgets": Note("List all budgets", {"limit": 10}),
    "PUT /v1/admin/budgets/{subject_id}/{period}": _one("Let somebody spend no more than this", {"limit": 20}),
    "DELETE /v1/admin/budgets/{subject_id}/{period}": Note("Lift a budget"),
    "GET /healthz": Note("Whether the process lives"),
    "GET /health": Note("Whether the process lives"),
    "GET /v1/admin/models/provider-models": Note("List who serves models, and what was decided about them", {"limit": 10}),
    "POST /v1/admin/models/provider-models/bulk-toggle": _one(
        "Switch several of them on or off", {"model_ids": [_NAME], "enabled": True}
    ),
    "GET /v1/admin/models/provider-models/{id:path}": _one("Read one of them"),
    "PATCH /v1/admin/models/provider-models/{id:path}": _one("Decide about one of them", {"enabled": True}),
    "GET /v1/admin/models/catalogs": Note("List the names that users know, with who serves them", {"limit": 10}),
    "POST /v1/admin/models/catalogs/bulk-toggle": _one(
        "Switch several names on or off", {"catalog_ids": [_NAME], "enabled": True}
    ),
    "GET /v1/admin/models/catalogs/{id:path}": _one("Read one name"),
    "PATCH /v1/admin/models/catalogs/{id:path}": _one("Decide about a name", {"display_name": "Demonstration"}),
    "GET /v1/approvals": Note("List what you were asked to allow", {"limit": 10}),
    "GET /v1/approvals/{id}": _one("Read one of them"),
    "POST /v1/approvals/{id}": _one("Decide whether a call of a tool may run", {"decision": "approve"}),
    "GET /v1/admin/providers": Note("List the upstreams that were set up"),
    "POST /v1/admin/providers": _made(
        "Set up an upstream; its key is sealed, and never shown again",
        {"name": "house", "vendor": "openai", "base_url": "http://127.0.0.1:8080/v1", "api_key": "sk-of-the-house"},
    ),
    "GET /v1/admin/providers/{id}": _one("Read an upstream"),
    "PATCH /v1/admin/providers/{id}": _one("Change an upstream", {"active": False}),
    "DELETE /v1/admin/providers/{id}": Note("Take an upstream away"),
    "POST /v1/admin/providers/{id}/sync": _one("Ask an upstream for its models now"),
    "POST /v1/admin/providers/{id}/test": _one("Try whether an upstream answers"),
    "GET /v1/mcp-tools": Note("List the tools that models may be offered"),
    "POST /mcp": Note(_MCP, _RPC),
    "POST /v1/mcp": Note(_MCP, _RPC),
    "GET /v1/mcp-tools/{tool_key}": _one("Read of a tool that models may be offered"),
    "GET /v1/admin/mcp/tools": Note("List all tools that servers have", {"limit": 10}),
    "GET /v1/admin/mcp-tools": Note("List all tools that servers have", {"limit": 10}),
    "GET /v1/admin/mcp/tools/{tool_id}": _one("Read of a tool and what was decided about it"),
    "GET /v1/admin/mcp-tools/{tool_id}": _one("Read of a tool and what was decided about it"),
    "PATCH /v1/admin/mcp/tools/{tool_id}": _one(_DECIDE, {"enabled": True, "require_approval": True}),
    "PATCH /v1/admin/mcp-tools/{tool_id}": _one(_DECIDE, {"is_active": True}),
    "POST /media/v1/media": _one("Bring a file for messages", {"source": {"type": "data_url", "data_url": PIXEL}}),
    "POST /media/v1/media/upload": Note(
        "Bring a file as a form, or as the bytes themselves", is_merged=True, accepts=("multipart/form-data", _BYTES)
    ),
    "POST /media/v1/media/prepare-upload": _one("Ask for a place to bring a file to", {"mime_type": "image/png"}),
    "PUT /media/v1/media/uploads/{ticket}": Note(
        "Bring the file to the place that was given", is_merged=True, accepts=(_BYTES,)
    ),
    "POST /media/v1/media/resolve": Note(
        "Have ids of files replaced by links", {"payload": {"image_url": {"url": SAMPLES["media"]}}}
    ),
    "GET /media/v1/media/{id}/presign": _one("Ask for a link to a file that opens without a sign-in"),
    "GET /media/v1/media/{id}": Note("The file itself", media=_ANY_FILE, answers="The file, under its own type"),
    "GET /api/media/{id}": Note("The file itself", media=_ANY_FILE, answers="The file, under its own type"),
    "DELETE /media/v1/media/{id}": _gone("Delete a file"),
    "GET /v1/healthz": Note("Whether the process lives"),
    "GET /healthcheck": Note("Whether the process lives"),
    "GET /ready": Note("Whether the process can work; 503 while it cannot"),
    "GET /readyz": Note("Whether the process can work; 503 while it cannot"),
    "GET /v1/readyz": Note("Whether the process can work; 503 while it cannot"),
    "GET /version": Note("Which version runs"),
    "GET /v1/version": Note("Which version runs"),
}  # fmt: skip
