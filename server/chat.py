"""`loquent chat`: a conversation in the terminal, streamed by the same subscription as in any other client."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server import console
from server.remote import Token, Url, told

if TYPE_CHECKING:
    from server.client import Client, Data
    from server.screen import Screen

_CREATE = "mutation { createConversation(input: {}) { conversation { id } errors { message } } }"
_SEND = """
mutation Send($id: ID!, $text: String!, $model: String) {
  sendMessage(input: {conversationId: $id, content: [{text: $text}], generate: {model: $model}}) {
    generation { id } errors { message }
  }
}"""
_CANCEL = "mutation Stop($id: ID!) { cancelGeneration(input: {id: $id}) { generation { id } errors { message } } }"
_FIND = "query Find($id: ID!) { conversation(id: $id) { id title } }"
_MODELS = "query { models(first: 100) { edges { node { name } } } }"
_FOLLOW = """
subscription Follow($id: ID!, $after: Int) {
  generation(id: $id, after: $after) {
    __typename
    seq
    ... on TextDelta { text }
    ... on GenerationSnapshot { text }
    ... on ToolCallFinished { toolCall { name } }
    ... on GenerationRerouted { modelName }
    ... on GenerationFailed { error { message } }
  }
}"""
_HELP = """\
/model NAME  be answered by another model    /models  list them
/new         begin another conversation      /quit    leave (also Ctrl-D)
Ctrl-C stops an answer; what it said is kept."""
_HISTORY = 1000


@dataclass(slots=True)
class _Talk:
    """A conversation with a server; `conversation_id` is None until the first message."""

    client: Client
    screen: Screen
    model: str | None
    conversation_id: str | None
    has_failed: bool = False

    async def answer(self, text: str) -> None:
        """Sends a message and shows its answer as it comes. Raises ClientError."""
        if self.conversation_id is None:
            made = await self.client.ask(_CREATE)
            self.conversation_id = str(made["createConversation"]["conversation"]["id"])
        sent = await self.client.ask(_SEND, id=self.conversation_id, text=text, model=self.model)
        generation_id = str(sent["sendMessage"]["generation"]["id"])
        with self.screen.answer(), self._stopped_by_hand(generation_id):
            async with contextlib.aclosing(self.client.follow(_FOLLOW, generation_id)) as events:
                async for event in events:
                    self._show(event)

    def _show(self, event: Data) -> None:
        match event["__typename"]:
            case "TextDelta":
                self.screen.add(event["text"])
            case "GenerationSnapshot":
                self.screen.replace(event["text"])
            case "ToolCallFinished":
                self.screen.note(f"used {event['toolCall']['name']}")
            case "GenerationRerouted":
                self.screen.note(f"answered by {event['modelName']}")
            case "GenerationCancelled":
                self.screen.note("stopped")
            case "GenerationIncomplete":
                self.screen.note("cut short")
            case "GenerationFailed":
                self.has_failed = True
                self.screen.complain(event["error"]["message"])

    @contextlib.contextmanager
    def _stopped_by_hand(self, generation_id: str) -> Generator[None]:
        """Ctrl-C stops the answer, not the program. Its end comes as every other event does."""
        loop, stopping = asyncio.get_running_loop(), set[asyncio.Task[object]]()

        def stop() -> None:
            stopping.add(loop.create_task(self.client.ask(_CANCEL, id=generation_id)))

        loop.add_signal_handler(signal.SIGINT, stop)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)


def chat(
    prompt: Annotated[str | None, typer.Argument(help="Ask this and leave. Also read from a pipe.")] = None,
    *,
    model: Annotated[str | None, typer.Option(help="Who answers; the server's default model by default.")] = None,
    conversation: Annotated[str | None, typer.Option(help="ID of a conversation to go on with.")] = None,
    url: Url = "http://localhost:8000",
    token: Token = None,
) -> None:
    """Talk with a model of a running server."""
    # Late: they take a quarter of a second, which `--help` need not wait for.
    from server.client import Client, ClientError  # noqa: PLC0415
    from server.screen import Screen  # noqa: PLC0415

    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
        if not prompt:
            console.fail("There is nothing to ask: the input is empty")
    # One loop for all answers: connections stay open between them.
    with told(ClientError), asyncio.Runner() as runner:
        talk = _Talk(Client(url, token), Screen(), model, conversation)
        if conversation is not None:
            _require(runner, talk, conversation)
        if prompt is not None:
            runner.run(talk.answer(prompt))
            if talk.has_failed:
                raise typer.Exit(1)
            return
        _converse(runner, talk, ClientError)


def _require(runner: asyncio.Runner, talk: _Talk, conversation_id: str) -> None:
    found = runner.run(talk.client.ask(_FIND, id=conversation_id))["conversation"]
    if found is None:
        console.fail(f"There is no conversation {conversation_id}, or it belongs to somebody else")
    talk.screen.note(found["title"] or conversation_id)


def _converse(runner: asyncio.Runner, talk: _Talk, failure: type[Exception]) -> None:
    """Until the person has had enough. A question that fails is told, and another may be asked."""
    talk.screen.note("Ctrl-C stops an answer, /help tells more, Ctrl-D leaves.")
    with _remembered():
        while (line := _read()) is not None:
            text = line.strip()
            try:
                if text.startswith("/") and not _command(runner, talk, text):
                    return
                if text and not text.startswith("/"):
                    runner.run(talk.answer(text))
            except failure as error:
                talk.screen.complain(str(error))
            except KeyboardInterrupt:
                # Before the answer has begun.
                talk.screen.note("stopped")


def _read() -> str | None:
    """A line; None when there will be none any more."""
    while True:
        try:
            return input("> ")
        except EOFError:
            typer.echo()
            return None
        except KeyboardInterrupt:
            # As in a shell: what stands there is given up.
            typer.echo()


def _command(runner: asyncio.Runner, talk: _Talk, text: str) -> bool:
    """Whether to go on after this one."""
    name, _, rest = text.partition(" ")
    match name:
        case "/quit" | "/exit":
            return False
        case "/new":
            talk.conversation_id = None
            talk.screen.note("A new conversation.")
        case "/model" if rest.strip():
            talk.model = rest.strip()
            talk.screen.note(f"{talk.model} answers from now on.")
        case "/models":
            found = runner.run(talk.client.ask(_MODELS))["models"]["edges"]
            talk.screen.note("\n".join(edge["node"]["name"] for edge in found))
        case _:
            talk.screen.note(_HELP)
    return True


@contextlib.contextmanager
def _remembered() -> Generator[None]:
    """Arrow keys bring back what was asked before, also the last time."""
    try:
        import readline  # noqa: PLC0415 - not on every system
    except ImportError:
        yield
        return
    path = Path(typer.get_app_dir("loquent")) / "history"
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)
