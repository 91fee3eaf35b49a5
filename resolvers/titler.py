"""Has a model write titles, beside everything else: one that fails leaves the title that the rule made, and is counted."""

from __future__ import annotations

import asyncio
import re

import structlog

from db import conversations, feed, search
from db.base import Sessions, StorageError, new_id, now
from db.models import GenerationStatus
from engine.events import Cancelled
from engine.providers.base import ChatRequest
from engine.providers.registry import Entry, Registry
from engine.run import Run, Spec
from engine.supervisor import Supervisor
from resolvers import reservations, titles
from resolvers.errors import BudgetExceeded
from resolvers.reservations import Spent

_log = structlog.get_logger()

WAIT = 60.0
AT_ONCE = 4
_LONGEST_EXCERPT = 2_000
_PARAMETERS = {"max_tokens": 64, "temperature": 0.2}
_ORDER = (
    "Write a title of at most eight words for the conversation that begins like this. "
    "Answer with the title alone, in the language of the conversation, without quotation marks."
)
_THOUGHT = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)


class Titler:
    """`model` names who writes; None leaves all titles to the rule. `failures` counts the titles that did not come."""

    def __init__(self, database: Sessions, supervisor: Supervisor, registry: Registry, model: str | None) -> None:
        self._database = database
        self._supervisor = supervisor
        self._registry = registry
        self._model = model
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self.failures = 0

    def follow(self, run: Run, asked: str, title: str, spent: Spent | None = None) -> None:
        """Once this first reply to `asked` is there, replaces `title`, which the rule made, unless somebody has changed it.

        The user pays for it, `spent` where that is held against a budget, which may not allow it any more.
        """
        if self._model is None or run.spec.conversation_id is None:
            return
        task = asyncio.get_running_loop().create_task(self._replace(run, run.spec.conversation_id, asked, title, spent))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _replace(self, run: Run, conversation_id: str, asked: str, title: str, spent: Spent | None) -> None:
        await run.ended()
        if run.status is not GenerationStatus.COMPLETED:
            return
        if self._supervisor.is_draining:
            return
        try:
            async with self._turn:
                written = await self._written(run, asked, spent)
            if written is not None and written != title:
                await self._keep(conversation_id, run.spec.user_id, title, written)
        except (StorageError, BudgetExceeded) as error:
            self._fail(conversation_id, str(error))

    async def _written(self, run: Run, asked: str, spent: Spent | None) -> str | None:
        """Raises StorageError, BudgetExceeded."""
        entry = self._registry.find(self._model or "")
        if entry is None:
            self._fail(run.spec.conversation_id, "the model is not there")
            return None
        begins = f"{_ORDER}\n\nUser: {asked[:_LONGEST_EXCERPT]}\n\nAssistant: {run.transcript.text[:_LONGEST_EXCERPT]}"
        request = ChatRequest(
            entry.upstream_name, [{"role": "user", "content": begins}], _PARAMETERS, is_streamed=False
        )
        titling = await self._started(run.spec, entry, request, spent)
        try:
            async with asyncio.timeout(WAIT):
                await titling.ended()
        except TimeoutError:
            titling.stop(Cancelled())
        title = titles.from_model(_THOUGHT.sub("", titling.transcript.text))
        if titling.status is not GenerationStatus.COMPLETED or title is None:
            self._fail(run.spec.conversation_id, titling.status.value)
            return None
        return title

    async def _started(self, replied: Spec, entry: Entry, request: ChatRequest, spent: Spent | None) -> Run:
        id = new_id("gen")
        amount = reservations.most([entry.info], request.messages, request.options) if spent is not None else 0
        if spent is not None:
            async with self._database.write() as session:
                await reservations.reserve(session, spent, id, replied.user_id, replied.credential_id, amount)
        return self._supervisor.start(
            Spec(
                id=id,
                user_id=replied.user_id,
                model=entry.name,
                provider=entry.provider,
                request=request,
                conversation_id=replied.conversation_id,
                is_durable=False,
                credential_id=replied.credential_id,
                prices=entry.info.prices,
                is_reserved=amount > 0,
            )
        )

    async def _keep(self, conversation_id: str, user_id: str, old: str, new: str) -> None:
        async with self._database.write() as session:
            conversation = await conversations.touch(session, conversation_id, user_id, now())
            if conversation is None or conversation.is_title_own or conversation.title != old:
                return
            conversation.title = new
            await search.index_title(session, conversation)
            feed.announce(session, user_id, feed.Kind.CONVERSATION, conversation_id)

    def _fail(self, conversation_id: str | None, reason: str) -> None:
        self.failures += 1
        _log.warning("title not written", conversation_id=conversation_id, reason=reason)
