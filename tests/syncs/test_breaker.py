"""The circuit breaker: when it opens, whom it lets try, when it closes."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import FastAPI

from app.database import Database
from app.syncs import breaker as breaker_module
from app.syncs.breaker import CircuitBreaker, Endpoint
from app.syncs.failures import FailureKind, ServerFailure
from tests.factories import Registry
from tests.syncs.syncing import FakeServers, Syncs, credential, failing, rows_of, server_at

ENDPOINT = Endpoint("db-1.example", 5432)
REFUSED = ServerFailure(FailureKind.REFUSED, "connection refused", "is it running?")
SIGN_IN_REFUSED = ServerFailure(FailureKind.SIGN_IN_REFUSED, "no", "check the password")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 10, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(breaker_module, "utc_now", clock)
    return clock


@pytest.fixture
def breaker(database: Database) -> CircuitBreaker:
    return CircuitBreaker(database)


async def attempt(breaker: CircuitBreaker, failure: ServerFailure | None, *, is_forced: bool = False) -> bool:
    """Whether it was let try; the attempt ends with the failure, or well."""
    admission = await breaker.admit(ENDPOINT, is_forced=is_forced)
    if admission.refusal is not None:
        return False
    await breaker.note(ENDPOINT, admission, failure)
    return True


class TestOpening:
    async def test_after_three_failures_in_a_row(self, breaker: CircuitBreaker, clock: Clock) -> None:
        assert [await attempt(breaker, REFUSED) for _ in range(5)] == [True, True, True, False, False]

    async def test_not_when_a_success_comes_between(self, breaker: CircuitBreaker, clock: Clock) -> None:
        outcomes = [REFUSED, REFUSED, None, REFUSED, REFUSED]
        assert [await attempt(breaker, outcome) for outcome in outcomes] == [True] * 5
        assert await attempt(breaker, None)

    async def test_not_when_the_server_answers_with_a_refusal(
        self, breaker: CircuitBreaker, clock: Clock, database: Database
    ) -> None:
        outcomes = [REFUSED, REFUSED, SIGN_IN_REFUSED, REFUSED, REFUSED]
        assert [await attempt(breaker, outcome) for outcome in outcomes] == [True] * 5
        assert [row["failures"] for row in await rows_of(database, "sync_endpoints")] == [2]

    async def test_lasts_longer_each_time(self, breaker: CircuitBreaker, clock: Clock) -> None:
        for _ in range(3):
            await attempt(breaker, REFUSED)
        for seconds in (30, 60, 120, 240, 480, 600, 600):
            clock.advance(seconds - 1)
            assert not await attempt(breaker, REFUSED)
            clock.advance(1)
            assert await attempt(breaker, REFUSED)

    async def test_concerns_the_one_endpoint(self, breaker: CircuitBreaker, clock: Clock) -> None:
        for _ in range(3):
            await attempt(breaker, REFUSED)
        for other in (Endpoint("db-1.example", 5433), Endpoint("db-2.example", 5432)):
            assert (await breaker.admit(other)).refusal is None

    async def test_says_since_when_and_why(self, breaker: CircuitBreaker, clock: Clock) -> None:
        since = clock.now
        for _ in range(3):
            await attempt(breaker, REFUSED)
            clock.advance(5)
        admission = await breaker.admit(ENDPOINT)
        assert admission.unreachable_since == since
        assert admission.refusal is not None
        assert admission.refusal.kind is FailureKind.CIRCUIT_OPEN
        assert "db-1.example:5432" in admission.refusal.message
        assert "2026-11-22 10:00:00 UTC" in admission.refusal.message
        assert "3 failures in a row, the last: refused" in admission.refusal.message


class TestHalfOpen:
    async def test_lets_one_try(self, breaker: CircuitBreaker, clock: Clock, database: Database) -> None:
        for _ in range(3):
            await attempt(breaker, REFUSED)
        clock.advance(30)
        others = [CircuitBreaker(database) for _ in range(5)]
        admissions = await asyncio.gather(*(each.admit(ENDPOINT) for each in (breaker, *others)))
        assert sum(admission.refusal is None for admission in admissions) == 1

    async def test_lets_another_try_when_the_first_never_comes_back(
        self, breaker: CircuitBreaker, clock: Clock
    ) -> None:
        for _ in range(3):
            await attempt(breaker, REFUSED)
        clock.advance(30)
        assert (await breaker.admit(ENDPOINT)).refusal is None
        assert (await breaker.admit(ENDPOINT)).refusal is not None
        clock.advance(30)
        assert (await breaker.admit(ENDPOINT)).refusal is None

    async def test_closes_after_a_success(self, breaker: CircuitBreaker, clock: Clock, database: Database) -> None:
        for _ in range(3):
            await attempt(breaker, REFUSED)
        clock.advance(30)
        assert await attempt(breaker, None)
        assert await rows_of(database, "sync_endpoints") == []
        assert [await attempt(breaker, REFUSED) for _ in range(3)] == [True] * 3


class TestForced:
    async def test_tries_at_once_and_closes(self, breaker: CircuitBreaker, clock: Clock) -> None:
        for _ in range(3):
            await attempt(breaker, REFUSED)
        assert await attempt(breaker, REFUSED, is_forced=True)
        assert await attempt(breaker, None, is_forced=True)
        assert await attempt(breaker, None)


class TestSyncs:
    async def test_show_since_when_a_server_is_unreachable(
        self, app: FastAPI, admin: int, registry: Registry, servers: FakeServers, database: Database
    ) -> None:
        syncs = Syncs(app, admin)
        instance_id = await server_at(registry, "10.0.0.1", credential_id=await credential(app, registry))
        servers["10.0.0.1"].before = failing("connect", REFUSED)
        operations = [await syncs.sync([instance_id]) for _ in range(4)]
        assert len(servers.targets) == 3
        [endpoint] = await rows_of(database, "sync_endpoints")
        assert (endpoint["host"], endpoint["port"], endpoint["failures"]) == ("10.0.0.1", 6379, 3)
        for operation in operations:
            assert {each["unreachable_since"] for each in await syncs.records(operation)} == {
                endpoint["unreachable_since"]
            }
        [item] = await syncs.items(operations[-1])
        assert item["detail"]["error"]["kind"] == "circuit_open"
        assert datetime.fromisoformat(item["detail"]["unreachable_since"]) == endpoint["unreachable_since"]
        assert {each["error_kind"] for each in await syncs.records(operations[-1])} == {"circuit_open"}

        servers["10.0.0.1"].before = None
        repaired = await syncs.sync([instance_id], ignores_open_circuit=True)
        assert repaired.counts == {"succeeded": 1}
        assert {each["unreachable_since"] for each in await syncs.records(repaired)} == {None}
        assert await rows_of(database, "sync_endpoints") == []

    async def test_of_a_server_that_says_something_count_as_reached(
        self, app: FastAPI, admin: int, registry: Registry, servers: FakeServers, database: Database
    ) -> None:
        instance_id = await server_at(registry, "10.0.0.1", credential_id=await credential(app, registry))
        closed = ServerFailure(FailureKind.CLOSED, "closed", "look at its log")
        servers["10.0.0.1"].before = failing("sizes", closed)
        assert (await Syncs(app, admin).sync([instance_id])).counts == {"partial": 1}
        assert await rows_of(database, "sync_endpoints") == []
