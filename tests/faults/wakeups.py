"""Without Redis everything goes on: what it would have told is found by looking, and what it would have counted is counted here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx2

from tests.faults.conftest import Place
from tests.faults.followers import Follower, by_socket
from tests.faults.redis import Redis, private_redis
from tests.faults.report import Report
from tests.faults.talker import Question
from tests.faults.world import PATIENCE, Refusal, Seat, World, until, world

# How far a follower may lag behind the server that runs what it follows, while nothing can be told.
LAG = 1.0
# What it may take until it shows that Redis is away, and that it is back.
TURN = 3.0
# How long any request may take, whatever Redis does.
QUICK = 1.0
REVOKED = 5.0
GUESTS_A_MINUTE, SIGN_INS_A_MINUTE = 20, 5
# Where a minute ends meanwhile, a few of the one before are forgiven.
FORGIVEN = 4
_TURNED = b"limits counted"
SETTINGS = {"GUEST_RATE_LIMIT": str(GUESTS_A_MINUTE), "LOGIN_RATE_LIMIT": str(SIGN_INS_A_MINUTE)}
WORDS, EVERY = 12, 0.1
TURNS = ("there", "frozen", "thawed", "killed")


async def check(place: Place, folder: Path, times: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """So many times: absent, there, frozen, thawed, killed. The servers start without it."""
    return await _check(place, folder, times, seed, more, TURNS)


async def check_hasty(place: Place, folder: Path, times: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """So many times: absent, there and killed."""
    return await _check(place, folder, times, seed, more, ("there", "killed"))


async def _check(
    place: Place, folder: Path, times: int, seed: int, more: Mapping[str, str], turns: Sequence[str]
) -> Report:
    with private_redis(folder) as redis:
        where = replace(place, environment={"REDIS_URL": redis.url, **SETTINGS, **more})
        began = time.monotonic()
        async with world("wakeups", where, folder, seed=seed) as servers:
            servers.report.worst("start_without_redis", time.monotonic() - began)
            token = await _person(servers, "somebody")
            for _ in range(times):
                await _check_phase(servers, token, "absent", is_away=True)
                for name in turns:
                    await _turn(servers, redis, token, name)
            return servers.report


async def _turn(world: World, redis: Redis, token: str, name: str) -> None:
    turn, is_away = {
        "there": (redis.start, False),
        "frozen": (redis.freeze, True),
        "thawed": (redis.thaw, False),
        "killed": (redis.kill, True),
    }[name]
    async with _watching(world, token, name):
        await asyncio.to_thread(turn)
        await _until_noticed(world, is_away=is_away)
    await _check_phase(world, token, name, is_away=is_away)


async def _until_noticed(world: World, *, is_away: bool) -> None:
    """Every server has said that Redis is there, or not, as often as the other; how long that took is measured."""

    def is_noticed(seat: Seat) -> bool:
        lost, found = (seat.standing.said.count(words) for words in (b"processes not heard", b"processes heard again"))
        return (lost > found) == is_away

    took = await until(lambda: all(map(is_noticed, world.seats)))
    world.report.worst("worst_noticed", took)
    world.report.check(took <= TURN, f"that Redis was {'away' if is_away else 'back'} showed after {took:.2f} s")


@asynccontextmanager
async def _watching(world: World, token: str, what: str) -> AsyncGenerator[None]:
    """A follower on the other server through the turn: nothing is missed, whatever was told or not."""
    question = Question(world.mark(), words=40, every=0.05)
    follower = await world.send(world.first.direct, token, question)
    following = asyncio.create_task(follower.follow(by_socket, world.last.direct))
    await until(lambda: follower.heard)
    yield
    await following
    row = await world.stored(follower.id)
    world.report.faults += [f"{what}: {fault}" for fault in follower.faults(row.text if row is not None else "")]
    world.report.check(not follower.codes, f"{what}: a follower was cut off, {follower.codes}")


async def _check_phase(world: World, token: str, name: str, *, is_away: bool) -> None:
    await _until_counted(world, is_away=is_away)
    lag, _, _ = await asyncio.gather(
        _lag(world, token),
        _check_limits(world, name, is_away=is_away),
        _check_revocation(world, f"{name}{world.mark()}"),
    )
    world.report.worst(f"lag_{name}", lag)
    late = world.clock.lateness()
    world.report.check(lag <= LAG + 0.1 + late, f"{name}: a follower was {lag:.2f} s behind")


async def _lag(world: World, token: str) -> float:
    """The longest that an event took from the server that runs to a follower on the other one."""
    question = Question(world.mark(), words=WORDS, every=EVERY)
    run = await world.send(world.first.direct, token, question)
    here, there = await asyncio.gather(*(_heard(seat.direct, run) for seat in (world.first, world.last)))
    world.report.check(list(here) == list(there), "a follower heard something else on the other server")
    return max(there[seq] - here[seq] for seq in here)


async def _heard(url: str, run: Follower) -> dict[int, float]:
    """When each event was heard."""
    found = {}
    async with aclosing(by_socket(url, run.token, run.id, 0)) as events:
        async for one in events:
            found[one.seq] = time.monotonic()
    return found


async def _until_counted(world: World, *, is_away: bool) -> None:
    """Every server counts requests where it is to count them: it learns of a turn by one of them."""

    async def is_so(seat: Seat) -> bool:
        await world.ask(seat.direct, await world.guest(), "GET", "/v1/conversations")
        lost, found = (
            seat.standing.said.count(words) for words in (b"limits counted locally", b"limits counted in redis")
        )
        return (lost > found) == is_away

    for seat in world.seats:
        took = await until(partial(is_so, seat))
        world.report.worst("worst_counted", took)
        world.report.check(took <= TURN, f"where requests are counted showed after {took:.2f} s")


async def _check_limits(world: World, name: str, *, is_away: bool) -> None:
    """A guest's many requests, and many tries to sign in: counted by each server for itself while Redis is away."""
    headers = {"Authorization": f"Bearer {await world.guest()}"}
    account = {"email": f"{world.mark()}@example.com", "password": "not the password at all"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE) as guest,
        httpx2.AsyncClient(timeout=PATIENCE) as nobody,
    ):
        for number, seat in enumerate(world.seats):
            is_fresh = is_away or number == 0
            turns = seat.standing.said.count(_TURNED)
            asked = await _let_through(world, partial(guest.get, f"{seat.direct}/v1/conversations"), GUESTS_A_MINUTE)
            sign_in = partial(nobody.post, f"{seat.direct}/v1/users/login", json=account)
            tried = await _let_through(world, sign_in, SIGN_INS_A_MINUTE)
            if seat.standing.said.count(_TURNED) != turns:
                # Redis took too long on a busy machine, so the server has begun to count anew.
                world.report.count("turned_meanwhile")
                continue
            for what, found, most in (("requests", asked, GUESTS_A_MINUTE), ("sign-ins", tried, SIGN_INS_A_MINUTE)):
                allowed = range(most, most + FORGIVEN) if is_fresh else range(FORGIVEN)
                world.report.check(found in allowed, f"{name}: {found} {what} of {most} were let through")


async def _let_through(world: World, ask: Callable[[], Awaitable[httpx2.Response]], most: int) -> int:
    """How many in a row, before one is refused for being too many."""
    for number in range(2 * most + FORGIVEN):
        if await _status(world, ask()) == 429:
            return number
    return 2 * most + FORGIVEN


async def _status(world: World, asking: Awaitable[httpx2.Response]) -> int:
    began = time.monotonic()
    answer = await asking
    took = time.monotonic() - began
    world.report.worst("worst_answer", took)
    world.report.check(took <= QUICK + world.clock.lateness(), f"an answer took {took:.2f} s")
    world.report.check(
        answer.status_code != 429 or "retry-after" in answer.headers, "a 429 says not when to come again"
    )
    return answer.status_code


async def _check_revocation(world: World, name: str) -> None:
    """Who signs out on one server is out on the other one."""
    token = await _person(world, name)
    await world.ask(world.last.direct, token, "GET", "/v1/conversations")
    await world.ask(world.first.direct, token, "POST", "/auth/revoke", {"token": token})

    async def is_out() -> bool:
        try:
            await world.ask(world.last.direct, token, "GET", "/v1/conversations")
        except Refusal as refusal:
            return refusal.status == 401
        return False

    took = await until(is_out)
    world.report.worst("worst_revocation", took)
    world.report.check(took <= REVOKED, f"{name}: signed out on one server, and let in on the other for {took:.1f} s")


async def _person(world: World, name: str) -> str:
    account = {"email": f"{name}@example.com", "password": f"the password of {name}"}
    await world.ask(world.first.direct, "", "POST", "/v1/users/register", account)
    answer = await world.ask(world.first.direct, "", "POST", "/v1/users/login", account)
    return str(answer["token"])
