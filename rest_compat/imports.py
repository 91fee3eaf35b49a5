"""Archives, and what other programs export, put into the caller's account."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Literal

import msgspec

from resolvers import imports
from rest_compat import shapes
from rest_compat.endpoint import Ask, Reply


class ProblemObject(msgspec.Struct, frozen=True):
    line: int
    message: str


class ImportObject(msgspec.Struct, frozen=True, kw_only=True):
    """`skipped` conversations were there already; of `error_count` failures `errors` are the first hundred."""

    object: Literal["import"] = "import"
    conversations: int
    items: int
    projects: int
    skipped: int
    error_count: int
    errors: list[ProblemObject]


async def account(ask: Ask, pieces: AsyncGenerator[bytes]) -> Reply:
    report = await imports.into_own(ask.call, pieces)
    made = ImportObject(
        conversations=report.conversations,
        items=report.items,
        projects=report.projects,
        skipped=report.skipped,
        error_count=report.failures,
        errors=[ProblemObject(problem.line, problem.message) for problem in report.problems],
    )
    return Reply(shapes.merged(made))
