"""Promise 10: what is too much is refused, and soon; whether a server lives can be asked all the while."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import asyncpg
import httpx2
from sqlalchemy.engine import make_url

from tests.faults.conftest import Place
from tests.faults.followers import by_socket
from tests.faults.report import Report
from tests.faults.talker import MODEL, Question, spoken
from tests.faults.world import PATIENCE, Seat, World, until, world

SOON = 2.0
HEALTHY = 0.1
HEALTH_PAUSE = 0.05
STATEMENT = 3.0
# Beyond that: to wait for a connection before, and to part from one afterwards.
ALLOWANCE = 4.0
GUESTS_A_MINUTE, RUNS, FORGIVEN = 60, 2, 10
SETTINGS = {
    "GUEST_RATE_LIMIT": str(GUESTS_A_MINUTE),
    "GUEST_MAX_GENERATIONS": str(RUNS),
    "DATABASE_TIMEOUT": f"{STATEMENT:g}",
}
CROWD, LOCKED_CROWD = 100, 60


@dataclass
class _Health:
    """How long a server took to say that it lives, each time it was asked."""

    took: list[float] = field(default_factory=list)

    def tell(self, report: Report, when: str, most: float) -> None:
        worst, middle = max(self.took), statistics.median(self.took)
        report.figures |= {
            f"health_{when}_ms": round(middle * 1000, 1),
            f"health_{when}_worst_ms": round(worst * 1000, 1),
        }
        report.check(middle <= most, f"{when}: health was answered after {middle:.3f} s")


@asynccontextmanager
async def health(world: World, seat: Seat, when: str, most: float = HEALTHY) -> AsyncGenerator[_Health]:
    """Asks all the while. The middle answer may take `most`."""
    found = _Health()

    async def ask_on() -> None:
        async with httpx2.AsyncClient(base_url=seat.direct, timeout=PATIENCE) as client:
            while True:
                began = time.monotonic()
                answer = await client.get("/healthz")
                found.took.append(time.monotonic() - began)
                world.report.check(answer.status_code == 200, f"{when}: health answered {answer.status_code}")
                await asyncio.sleep(HEALTH_PAUSE)

    asking = asyncio.create_task(ask_on())
    try:
        yield found
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    found.tell(world.report, when, most)


async def _crowd(seat: Seat, token: str, path: str, people: int, seconds: float) -> Mapping[str, tuple[int, float]]:
    """What a crowd of so many was answered: by status, how many and the slowest."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.crowd", seat.direct, token, path, str(people), str(seconds)),
        cwd=Path(__file__).parent.parent.parent,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    found: Mapping[str, tuple[int, float]] = json.loads(said)
    return found


async def check(place: Place, folder: Path, seconds: int, seed: int = 1, more: Mapping[str, str] = {}) -> Report:
    """Each kind of too much, for so many seconds where it takes time."""
    where = replace(place, environment={**place.environment, **SETTINGS, **more})
    async with world("overload", where, folder, seed=seed) as servers:
        somebody = await _person(servers)
        await _check_limits(servers)
        async with health(servers, servers.first, "full") as pulse:
            answers = await _crowd(servers.first, somebody, "/v1/conversations", CROWD, seconds)
        servers.report.figures["crowd"] = sum(count for count, _ in answers.values())
        servers.report.worst("crowd_slowest", max(slowest for _, slowest in answers.values()))
        servers.report.check(answers.keys() <= {"200", "503"}, f"a crowd was answered {answers}")
        _, slowest = answers.get("503", (0, 0.0))
        # A machine that is busy with other things makes the server late in all that it does, and the crowd is late itself.
        late = 1 + 3 * max(pulse.took)
        servers.report.check(slowest <= SOON + late, f"somebody in a crowd was refused after {slowest:.2f} s")
        if place.name == "postgresql":
            await _check_exhausted(servers, somebody, seconds)
        return servers.report


async def _person(world: World) -> str:
    account = {"email": "somebody@example.com", "password": "the password of somebody"}
    await world.ask(world.first.direct, "", "POST", "/v1/users/register", account)
    return str((await world.ask(world.first.direct, "", "POST", "/v1/users/login", account))["token"])


async def _check_limits(world: World) -> None:
    """Beyond what one guest may ask for, and may have running, they are refused at once and told when to come again."""
    token = await world.guest()
    question = str(Question(world.mark(), words=1000, every=0.1))
    body = {"model": MODEL, "messages": [{"role": "user", "content": question}], "stream": True}
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE) as client:
        url = world.first.direct
        held = [client.build_request("POST", f"{url}/v1/chat/completions", json=body) for _ in range(RUNS)]
        streams = [await client.send(one, stream=True) for one in held]
        world.report.check([one.status_code for one in streams] == [200] * RUNS, "what may run did not run")
        await _check_refused(world, client.post(f"{url}/v1/chat/completions", json=body), "one run too many")
        for stream in streams:
            await stream.aclose()
        left = GUESTS_A_MINUTE - RUNS - 1
        many = await asyncio.gather(*(client.get(f"{url}/v1/conversations") for _ in range(2 * left)))
        statuses = Counter(answer.status_code for answer in many)
        # Where Redis took too long to count, the server has counted for itself; where a minute ends meanwhile, a few of the one
        # before are forgiven; and a server may be too busy for so many at once.
        is_local = any(b"limits counted locally" in seat.standing.said for seat in world.seats)
        most = 2 * left if is_local else left + FORGIVEN
        is_held = statuses[200] <= most and statuses.keys() <= {200, 429, 503}
        world.report.check(is_held, f"{2 * left} requests, of which {left} are allowed, were answered by {statuses}")
        for _ in range(GUESTS_A_MINUTE if is_local else FORGIVEN):
            if (await client.get(f"{url}/v1/conversations")).status_code == 429:
                break
        await _check_refused(world, client.get(f"{url}/v1/conversations"), "one request too many")


async def _check_refused(world: World, asking: Awaitable[httpx2.Response], what: str) -> None:
    began = time.monotonic()
    answer = await asking
    took = time.monotonic() - began
    world.report.worst("worst_refusal", took)
    world.report.check(took <= SOON, f"{what} was refused after {took:.2f} s")
    has_wait = "retry-after" in answer.headers
    world.report.check(answer.status_code == 429 and has_wait, f"{what} was answered by {answer.status_code}")


async def _check_exhausted(world: World, token: str, seconds: int) -> None:
    """All connections of one server wait behind a lock: who comes beyond that is refused, and nobody takes the server for dead."""
    report, busy = world.report, world.first
    words = 20 * (seconds + 4)
    run = await world.send(busy.direct, token, Question(world.mark(), words=words, every=0.05))
    following = asyncio.create_task(run.follow(by_socket, world.last.direct))
    await until(lambda: run.heard)
    url = make_url(world.place.address).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    async with health(world, busy, "exhausted"):
        async with connection.transaction():
            await connection.execute("LOCK TABLE conversations IN ACCESS EXCLUSIVE MODE")
            crowd = asyncio.create_task(_crowd(busy, token, "/v1/conversations", LOCKED_CROWD, seconds))
            report.worst("unready_after", await until(lambda: _status_is(busy, "/ready", 503)))
            answers = await crowd
        freed = time.monotonic()
        await until(lambda: _status_is(busy, "/v1/conversations", 200, token))
        took = time.monotonic() - freed
    await connection.close()
    report.worst("back_after_lock", took)
    report.check(took <= SOON, f"a server was back {took:.2f} s after the lock was gone")
    report.figures["refused"] = answers.get("503", (0, 0.0))[0]
    report.check(set(answers) <= {"200", "503"}, f"behind a lock it was answered {answers}")
    slowest = max(slowest for _, slowest in answers.values())
    report.worst("slowest_behind_lock", slowest)
    report.check(slowest <= STATEMENT + ALLOWANCE, f"somebody waited {slowest:.1f} s for what was locked")
    report.check(await _status_is(busy, "/ready", 200), "a server was not ready again")
    await following
    report.faults += run.faults(spoken(words))
    for server in world.first.fleet.servers:
        for lost in (b"worker lost", b"taken for dead", b"generation recovered"):
            report.check(lost not in server.said, f"a server said: {lost.decode()}")


async def _status_is(seat: Seat, path: str, status: int, token: str = "") -> bool:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx2.AsyncClient(base_url=seat.direct, headers=headers, timeout=PATIENCE) as client:
        return (await client.get(path)).status_code == status
