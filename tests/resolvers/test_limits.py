"""What is counted, how it comes back, and that a Redis which is away refuses nobody."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from structlog.testing import capture_logs

from db.models import Role
from resolvers import limits, limits_redis
from resolvers.caller import Caller
from resolvers.errors import RateLimited
from resolvers.limits import Limiter, Rates, Standing, subnet

pytestmark = pytest.mark.anyio

START = 6_000_000.0


class Clock:
    """Shows what it is set to: at first the beginning of a minute."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def person(id: str = "user_1", role: Role = Role.USER) -> Caller:
    return Caller(id, role, "ses_1", frozenset(), float("inf"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def charged(
    limiter: Limiter, caller: Caller | None = None, address: str = "192.0.2.1", cost: int = 1
) -> Standing:
    with anyio.fail_after(5):
        standing = await limiter.charge(caller, address, cost)
    assert standing is not None
    return standing


async def test_requests_are_counted_down_and_then_refused(clock: Clock) -> None:
    limiter = Limiter(Rates(user=3), clock=clock)
    clock.now += 15
    assert [await charged(limiter, person()) for _ in range(3)] == [
        Standing(3, 2, START + 60, 1),
        Standing(3, 1, START + 60, 1),
        Standing(3, 0, START + 60, 1),
    ]
    refused = await charged(limiter, person())
    # 45 seconds to the end of the minute, then a third of the next, for one of three to come back.
    assert refused == Standing(3, 0, START + 60, 1, refused.retry_after)
    assert refused.retry_after == pytest.approx(45, abs=0.01)
    with pytest.raises(RateLimited, match="3 a minute") as error:
        refused.check()
    assert error.value.retry_after == refused.retry_after


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("begun", [0.0, 17.5, 59.9])
async def test_request_is_admitted_once_it_has_waited_as_long_as_it_was_told(
    clock: Clock, limit: int, begun: float
) -> None:
    limiter = Limiter(Rates(user=limit), clock=clock)
    clock.now += begun
    for _ in range(limit):
        await charged(limiter, person())
    for _ in range(2 * limit):
        refused = await charged(limiter, person())
        assert refused.retry_after > 0
        clock.now += refused.retry_after - 0.01
        assert (await charged(limiter, person())).retry_after > 0
        clock.now += 0.02
        assert (await charged(limiter, person())).retry_after == 0


async def test_no_minute_holds_much_more_than_the_limit_wherever_it_begins(clock: Clock) -> None:
    limiter = Limiter(Rates(user=50), clock=clock)
    admitted: list[float] = []
    for _ in range(2400):
        clock.now += 0.1
        if (await charged(limiter, person())).retry_after == 0:
            admitted.append(clock.now)
    fullest = max(sum(begin <= moment < begin + 60 for moment in admitted) for begin in admitted)
    assert 50 <= fullest <= 55
    assert len(admitted) >= 190


async def test_a_minute_of_rest_gives_everything_back(clock: Clock) -> None:
    limiter = Limiter(Rates(user=2), clock=clock)
    for _ in range(3):
        await charged(limiter, person())
    clock.now += 120
    assert await charged(limiter, person()) == Standing(2, 1, START + 180, 1)


async def test_users_guests_and_strangers_are_counted_apart(clock: Clock) -> None:
    limiter = Limiter(Rates(user=5, guest=4, address=3), clock=clock)
    standings = [
        await charged(limiter, person("user_1")),
        await charged(limiter, person("user_2")),
        await charged(limiter, person("user_3", Role.GUEST)),
        await charged(limiter, person("user_4", Role.ADMIN)),
        await charged(limiter, None, "192.0.2.1"),
        await charged(limiter, None, "192.0.2.2"),
        await charged(limiter, None, "192.0.2.2"),
    ]
    assert [(standing.limit, standing.remaining) for standing in standings] == [
        (5, 4), (5, 4), (4, 3), (5, 4), (3, 2), (3, 2), (3, 1),
    ]  # fmt: skip


async def test_costly_request_takes_as_much_and_never_more_than_there_is(clock: Clock) -> None:
    limiter = Limiter(Rates(user=10), clock=clock)
    assert (await charged(limiter, person(), cost=7)).remaining == 3
    assert (await charged(limiter, person(), cost=4)).retry_after > 0
    assert (await charged(limiter, person(), cost=3)).remaining == 0
    assert await charged(limiter, person("user_2"), cost=1000) == Standing(10, 0, START + 60, 10)


async def test_without_rates_nothing_is_counted() -> None:
    limiter = Limiter()
    assert await limiter.charge(person(), "") is None
    assert await limiter.charge(None, "") is None
    for _ in range(1000):
        await limiter.attempt("", "ann@example.com")


async def test_attempts_at_one_account_are_bounded_from_wherever_they_come(clock: Clock) -> None:
    limiter = Limiter(Rates(address=100, attempts=3), clock=clock)
    for number in range(3):
        await limiter.attempt(f"192.0.2.{number}", "ann@example.com")
    with pytest.raises(RateLimited, match="Too many attempts to sign in") as error:
        await limiter.attempt("192.0.2.9", "ann@example.com")
    assert error.value.retry_after == pytest.approx(60, abs=0.01)
    await limiter.attempt("192.0.2.9", "bob@example.com")


async def test_attempts_from_one_address_are_bounded_whomever_they_name(clock: Clock) -> None:
    limiter = Limiter(Rates(address=3, attempts=100), clock=clock)
    await limiter.attempt("192.0.2.1")
    await limiter.attempt("192.0.2.1", "ann@example.com")
    await limiter.attempt("192.0.2.1", "bob\udc00")
    with pytest.raises(RateLimited):
        await limiter.attempt("192.0.2.1", "cid@example.com")
    # What the address asks for otherwise is counted apart.
    assert (await charged(limiter, None, "192.0.2.1")).remaining == 2


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", "local"),
        ("/run/socket", "/run/socket"),
    ],
)
def test_one_subscriber_is_one_place(address: str, place: str) -> None:
    assert subnet(address) == place


async def test_counts_of_a_window_are_dropped_with_it(clock: Clock) -> None:
    limiter = Limiter(Rates(user=10), clock=clock)
    for number in range(1000):
        await charged(limiter, person(f"user_{number}"))
    for _ in range(2):
        clock.now += 60
        await charged(limiter, person())
    window = limiter._memory._windows[60]
    assert (len(window.previous), len(window.current)) == (1, 1)


@contextlib.asynccontextmanager
async def shared(address: str, rates: Rates, clock: Callable[[], float]) -> AsyncIterator[Limiter]:
    limiter = Limiter(rates, address, clock=clock)
    yield limiter
    await limiter.close()


async def test_processes_that_share_a_redis_count_together(
    redis_address: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Eighty at once may be slow together, and whoever has waited for too long counts alone.
    monkeypatch.setattr(limits, "REDIS_SECONDS", 5.0)
    monkeypatch.setattr(limits_redis, "SECONDS", 5.0)
    rates = Rates(user=40)
    async with shared(redis_address, rates, clock) as first, shared(redis_address, rates, clock) as second:
        with anyio.fail_after(20):
            standings = await asyncio.gather(
                *(limiter.charge(person(), "") for _ in range(40) for limiter in (first, second))
            )
        outcomes = Counter(standing.retry_after == 0 for standing in standings if standing is not None)
        assert outcomes == {True: 40, False: 40}
        last = await charged(first, person())
        assert (last.limit, last.remaining, last.cost) == (40, 0, 1)
        assert 55 < last.retry_after < 65
        assert START + 55 < last.reset_at <= START + 60
        assert (first.misses, second.misses) == (0, 0)


async def test_first_request_in_redis_stands_as_it_does_in_memory(redis_address: str, clock: Clock) -> None:
    async with shared(redis_address, Rates(user=5), clock) as limiter:
        found = await charged(limiter, person(), cost=2)
    assert found == Standing(5, 3, found.reset_at, 2)
    assert found.reset_at == pytest.approx(START + 60, abs=1)


async def test_redis_that_is_away_refuses_nobody_and_is_told_once(clock: Clock) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
        with capture_logs() as log:
            async with shared(address, Rates(user=5), clock) as limiter:
                standings = []
                for _ in range(5):
                    clock.now += 2
                    standings.append(await charged(limiter, person()))
                assert [standing.retry_after for standing in standings] == [0] * 5
                assert limiter.misses == 5
    assert [entry["event"] for entry in log] == ["limits counted locally"]


async def test_redis_that_does_not_answer_holds_up_one_request_a_second(clock: Clock) -> None:
    asked = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    address = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, shared(address, Rates(user=100), clock) as limiter:
        await charged(limiter, person())
        assert asked == 1
        with anyio.fail_after(5):
            await asyncio.gather(*(limiter.charge(person(), "") for _ in range(20)))
        assert asked == 1
        clock.now += 2
        with anyio.fail_after(5):
            await asyncio.gather(*(limiter.charge(person(), "") for _ in range(20)))
        assert asked == 2
        assert limiter.misses == 41


async def test_redis_that_is_back_counts_again(
    redis_address: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shared(redis_address, Rates(user=5), clock) as limiter:
        assert limiter._redis is not None
        with capture_logs() as log, monkeypatch.context() as patch:
            patch.setattr(limiter._redis, "acquire_sliding_window_entry", _gone)
            assert (await charged(limiter, person())).remaining == 4
            patch.undo()
            # Not tried again at once.
            assert (await charged(limiter, person())).remaining == 3
            clock.now += 2
            assert (await charged(limiter, person())).remaining == 4
            assert (await charged(limiter, person())).remaining == 3
        assert limiter.misses == 2
        assert [entry["event"] for entry in log] == ["limits counted locally", "limits counted in redis again"]


async def _gone(*_: object) -> bool:
    raise ConnectionResetError
