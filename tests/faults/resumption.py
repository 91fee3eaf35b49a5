"""Promise 2: whoever is cut off goes on by the number of what they saw last, at any worker, and misses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio

from tests.faults.followers import DOORS, Follower
from tests.faults.proxy import FaultProxy
from tests.faults.report import Report
from tests.faults.talker import Question, spoken
from tests.faults.world import PATIENCE, World, until

TOGETHER = 6
CUTS_EACH = 5
WORDS = 120
EVERY = 0.01
# In bytes of what the server sends: somewhat less than all that it sends of such an answer.
LONGEST_PIECE = 12_000


async def check(world: World, resumes: int, doors: Sequence[str] = tuple(DOORS)) -> Report:
    """Cuts followers off at least so many times: by a reset, by the end of what they read, after so many bytes, and by their
    own leave."""
    token, number = (await world.person()).token, 0
    world.report.figures["resumes"] = 0
    while int(world.report.figures["resumes"]) < resumes and world.report.is_kept:
        run = await world.send(world.any_seat().direct, token, Question(world.mark(), words=WORDS, every=EVERY))
        world.report.count("runs")
        async with anyio.create_task_group() as tasks:
            for _ in range(TOGETHER):
                number += 1
                # Every third comes when the run has ended, as somebody does who was away.
                tasks.start_soon(_follow, world, Follower(run.id, token), doors[number % len(doors)], number % 3 == 0)
    return world.report


async def _follow(world: World, follower: Follower, door: str, is_late: bool) -> None:
    try:
        with anyio.fail_after(PATIENCE):
            if is_late:
                await until(lambda: world.has_ended(follower.id))
            for _ in range(CUTS_EACH):
                if not follower.is_over:
                    await _cut_once(world, follower, door)
            while not follower.is_over:
                await follower.follow(DOORS[door], world.any_seat().direct)
            await until(lambda: world.has_ended(follower.id))
    except TimeoutError:
        world.report.faults.append(f"{follower.id} by {door}: stands at event {follower.last}")
        return
    row = await world.stored(follower.id)
    text = row.text if row is not None else ""
    world.report.count("resumes", follower.resumes)
    world.report.check(text == spoken(WORDS), f"{follower.id}: the text is {text!r}")
    world.report.faults += follower.faults(text)


async def _cut_once(world: World, follower: Follower, door: str) -> None:
    """Lets somebody read for a while at any server, and cuts them off in one of all the ways."""
    choice = world.random
    async with FaultProxy("127.0.0.1", world.any_seat().proxy.port).running() as proxy:
        url, follow = f"http://127.0.0.1:{proxy.listening}", DOORS[door]
        match choice.randrange(4):
            case 0:
                proxy.cut_after = choice.randrange(1, LONGEST_PIECE)
                await follower.follow(follow, url)
            case 1:
                await follower.follow(follow, url, most=choice.randrange(1, WORDS // 2))
            case way:
                cut = proxy.reset if way == 2 else proxy.half_close
                cutting = asyncio.get_running_loop().call_later(choice.uniform(0, 0.5), cut)
                await follower.follow(follow, url)
                cutting.cancel()
