"""What others exported, or this server did, put into an account: conversation by conversation, each whole or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import msgspec
from sqlalchemy.exc import IntegrityError

from db import conversations, feed, projects, search
from db import settings as preferences
from db.base import Sessions, WriteSession, derived_id, now
from db.models import Project
from resolvers import archive, bundles, foreign, intake, settings
from resolvers.access import WRITE, clean_object, clean_text, require
from resolvers.accounts import LONGEST_MODEL, LONGEST_NAME
from resolvers.archive import BranchLine, ConversationLine, ItemLine, Line, ProjectLine, UserLine
from resolvers.bundles import Bundle, Rows
from resolvers.call import Call
from resolvers.errors import InvalidInput
from resolvers.intake import LARGEST_VALUE, Value
from resolvers.projects import LONGEST_INSTRUCTION
from resolvers.projects import LONGEST_NAME as LONGEST_PROJECT

MOST_ERRORS = 100
# A transaction of so many keeps other writers waiting for a tenth of a second.
BATCH_ITEMS = 200
BATCH_CONVERSATIONS = 50
LARGEST_PREFERENCES = 16_384


@dataclass(frozen=True, slots=True)
class Problem:
    """What could not be taken, and the line of the file where it begins."""

    line: int
    message: str


@dataclass(slots=True)
class Report:
    """What has become of a file. `skipped` conversations were there already; of `failures` the first hundred are `problems`."""

    conversations: int = 0
    items: int = 0
    projects: int = 0
    skipped: int = 0
    failures: int = 0
    problems: list[Problem] = field(default_factory=list)

    def fail(self, line: int, message: str) -> None:
        self.failures += 1
        if len(self.problems) < MOST_ERRORS:
            self.problems.append(Problem(line, message))


async def into_own(call: Call, pieces: AsyncIterator[bytes]) -> Report:
    """Into the caller's account."""
    return await into(call.services.database, require(call, WRITE).user_id, pieces)


async def into(database: Sessions, user_id: str, pieces: AsyncIterator[bytes]) -> Report:
    """As `into_own`, for anybody."""
    intaken = _Import(database, user_id)
    async for value in intake.values(pieces):
        await intaken.take(value)
    await intaken.end()
    return intaken.report


class _Import:
    """Holds one conversation that is not whole yet, and a batch of those that are."""

    def __init__(self, database: Sessions, user_id: str) -> None:
        self.report = Report()
        self._database = database
        self._user_id = user_id
        self._projects: dict[str, str] = {}
        self._open: Bundle | None = None
        # Of which conversation the lines are passed over, because it could not be taken.
        self._passed: str | None = None
        self._batch: list[Rows] = []

    async def take(self, value: Value) -> None:
        try:
            if value.content is None:
                raise InvalidInput(f"larger than {LARGEST_VALUE} bytes, or not whole")
            found = msgspec.json.decode(value.content)
            if not isinstance(found, Mapping):
                raise InvalidInput("not an object")
            await self._take(value, found)
        except InvalidInput as error:
            self.report.fail(value.line, error.message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.report.fail(value.line, f"not what it should be: {error}"[:300])

    async def _take(self, value: Value, found: Mapping[str, object]) -> None:
        if "type" in found and value.content is not None:
            await self._line(value.line, archive.read(value.content), len(value.content))
        elif foreign.is_chatgpt(found):
            await self._add(foreign.chatgpt(found, value.line))
        elif foreign.is_librechat(found):
            await self._add(foreign.librechat(found, value.line))
        elif {"conversation", "branches", "items"} <= found.keys() and value.content is not None:
            whole = msgspec.json.decode(value.content, type=_Whole)
            await self._add(Bundle(value.line, whole.conversation, whole.branches, whole.items))
        else:
            raise InvalidInput("neither a line of an archive nor a conversation of a program that is known")

    async def _line(self, number: int, line: Line, size: int) -> None:
        match line:
            case BranchLine() | ItemLine():
                self._into_open(number, line, size)
            case ConversationLine():
                await self._close()
                self._open, self._passed = Bundle(number, line, size=size), None
            case ProjectLine():
                await self._close()
                await self._project(line)
            case UserLine():
                await self._close()
                await self._person(line)

    def _into_open(self, number: int, line: BranchLine | ItemLine, size: int) -> None:
        if self._open is None or line.conversation_id != self._open.conversation.id:
            if line.conversation_id != self._passed:
                self._passed = line.conversation_id
                self.report.fail(number, "the line of its conversation does not stand before it")
            return
        self._open.size += size
        if self._open.size > LARGEST_VALUE:
            self.report.fail(self._open.line, f"the conversation is larger than {LARGEST_VALUE} bytes")
            self._open, self._passed = None, line.conversation_id
        elif isinstance(line, BranchLine):
            self._open.branches.append(line)
        else:
            self._open.items.append(line)

    async def _close(self) -> None:
        """The open conversation is whole now."""
        bundle, self._open = self._open, None
        if bundle is not None:
            try:
                await self._add(bundle)
            except InvalidInput as error:
                self.report.fail(bundle.line, error.message)

    async def _add(self, bundle: Bundle) -> None:
        self._batch.append(bundles.rows(bundle, self._user_id, self._projects))
        if len(self._batch) >= BATCH_CONVERSATIONS or sum(len(rows.items) for rows in self._batch) >= BATCH_ITEMS:
            await self._write()

    async def end(self) -> None:
        await self._close()
        await self._write()

    async def _write(self) -> None:
        total, batch = len(self._batch), {rows.conversation.id: rows for rows in self._batch}
        self._batch = []
        if not batch:
            return
        try:
            count, items = await self._insert(batch)
        except IntegrityError:
            # The same file is being imported beside this: now its conversations are there.
            count, items = await self._insert(batch)
        self.report.conversations += count
        self.report.items += items
        self.report.skipped += total - count

    async def _insert(self, batch: Mapping[str, Rows]) -> tuple[int, int]:
        """How many conversations, and items, were new."""
        ids = [id for rows in batch.values() for id in (rows.conversation.id, rows.origin)]
        async with self._database.write() as session:
            there = await conversations.by_ids(session, ids, self._user_id)
            new = [rows for id, rows in batch.items() if id not in there and rows.origin not in there]
            for rows in new:
                await _insert(session, rows)
        return len(new), sum(len(rows.items) for rows in new)

    async def _project(self, line: ProjectLine) -> None:
        name = clean_text(line.name, "name", limit=LONGEST_PROJECT, minimum=1)
        instruction = clean_text(line.instruction or "", "instruction", limit=LONGEST_INSTRUCTION) or None
        async with self._database.write() as session:
            found = await projects.named(session, self._user_id, name)
            if found is None:
                found = Project(
                    id=derived_id("proj", bundles.utc(line.created_at), self._user_id, line.id),
                    user_id=self._user_id,
                    name=name,
                    instruction=instruction,
                    is_favorite=line.is_favorite,
                    archived_at=bundles.utc(line.archived_at) if line.archived_at is not None else None,
                    created_at=bundles.utc(line.created_at),
                    updated_at=bundles.utc(line.updated_at),
                )
                session.add(found)
                self.report.projects += 1
        self._projects[line.id] = found.id

    async def _person(self, line: UserLine) -> None:
        """What the user has never said of themselves. Who they are, and what they may do, no file decides."""
        name = clean_text(line.display_name or "", "display_name", limit=LONGEST_NAME) or None
        model = clean_text(line.preferred_model or "", "preferred_model", limit=LONGEST_MODEL) or None
        kept = clean_object(line.preferences, "preferences", largest=LARGEST_PREFERENCES)
        wanted = settings.checked(line.settings)
        async with self._database.write() as session:
            row = await preferences.held(session, self._user_id, now())
            found = await preferences.get(session, self._user_id)
            if row is None or found is None:
                return
            user = found[0]
            user.display_name = user.display_name or name
            user.preferred_model = user.preferred_model or model
            user.preferences = user.preferences or kept
            row.values = row.values or wanted


class _Whole(msgspec.Struct, frozen=True):
    """One conversation as it is exported as JSON."""

    conversation: ConversationLine
    branches: list[BranchLine]
    items: list[ItemLine]


async def _insert(session: WriteSession, rows: Rows) -> None:
    for group in ([rows.conversation], rows.branches, rows.generations, rows.items):
        session.add_all(group)
        await session.flush()
    user_id = rows.conversation.user_id
    await search.index_items(session, rows.items, user_id)
    await search.index_title(session, rows.conversation)
    feed.announce(session, user_id, feed.Kind.CONVERSATION, rows.conversation.id)
