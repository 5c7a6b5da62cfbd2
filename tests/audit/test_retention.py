"""Old entries go from the beginning of the chain, and an anchor stays."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from app.audit import chain_repository, retention
from app.audit.chain import Sealing
from app.audit.retention import AuditRetention
from app.audit.sealer import SealingRefused
from app.background import keep_removing
from app.config import Settings
from app.database import Database
from tests.audit.trail import MOMENT, SEALING, add, count, kinds, newest, places, seal, sealed, tamper, verify

LATER = MOMENT + timedelta(days=1000)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The server's own sealer stays out of the way."""
    return settings.model_copy(update={"audit_seal_seconds": 3600.0})


async def sequences(database: Database) -> list[int | None]:
    return [sequence for _, sequence in await places(database)]


class TestRemove:
    async def test_keeps_as_many_days_as_it_is_told(self, database: Database) -> None:
        for days in (40, 31, 30, 29, 0):
            await add(database, occurred_at=LATER - timedelta(days=days))
        await seal(database)
        assert await AuditRetention(database, SEALING, 30).remove(LATER) == 2
        assert await sequences(database) == [3, 4, 5, None]

    async def test_leaves_an_anchor(self, database: Database) -> None:
        await sealed(database, 3)
        last = (await newest(database))[0]
        assert await AuditRetention(database, SEALING, 30).remove(LATER) == 3
        async with database.readers() as session:
            anchor = await chain_repository.newest_anchor(session)
        assert anchor is not None
        assert (anchor.end.sequence, anchor.end.seal, anchor.removed) == (3, last["seal"], 3)
        assert SEALING.is_genuine(anchor)

    async def test_is_recorded(self, database: Database) -> None:
        await sealed(database, 3)
        await AuditRetention(database, SEALING, 30).remove(LATER)
        [entry] = await newest(database)
        assert (entry["action"], entry["actor_name"]) == ("audit:remove", "muster")
        assert entry["changes"] == {"entries": 3, "up_to_sequence": 3}

    async def test_what_is_left_is_a_chain(self, database: Database) -> None:
        await sealed(database, 3)
        await AuditRetention(database, SEALING, 30).remove(LATER)
        assert await seal(database) == 1
        assert await sequences(database) == [4]
        assert kinds(await verify(database)) == []

    async def test_unsealed_entries_stay_however_old(self, database: Database) -> None:
        await sealed(database, 1)
        await add(database, 2)
        assert await AuditRetention(database, SEALING, 30).remove(LATER) == 1
        assert await sequences(database) == [None] * 3

    async def test_only_what_comes_before_the_first_that_is_not_old(self, database: Database) -> None:
        """The clock of the server that wrote the second was wrong."""
        for days in (40, 0, 40):
            await add(database, occurred_at=LATER - timedelta(days=days))
        await seal(database)
        assert await AuditRetention(database, SEALING, 30).remove(LATER) == 1
        assert await sequences(database) == [2, 3, None]

    @pytest.mark.parametrize("days", [0, 10**6, 10**9])
    async def test_for_ever(self, database: Database, days: int) -> None:
        await sealed(database, 2)
        assert await AuditRetention(database, SEALING, min(days, 999_999_999)).remove(LATER) == 0
        assert await sequences(database) == [1, 2]

    async def test_now_is_now(self, database: Database) -> None:
        for days in (12, 9):
            await add(database, occurred_at=datetime.now(UTC) - timedelta(days=days))
        await seal(database)
        assert await AuditRetention(database, SEALING, 10).remove() == 1

    async def test_a_trail_that_was_never_sealed_stays(self, database: Database) -> None:
        await add(database, 2)
        assert await AuditRetention(database, SEALING, 30).remove(LATER) == 0

    async def test_another_key_removes_nothing(self, database: Database) -> None:
        await sealed(database, 2)
        with pytest.raises(SealingRefused):
            await AuditRetention(database, Sealing(b"another"), 30).remove(LATER)
        assert await sequences(database) == [1, 2]

    async def test_nor_does_a_forged_anchor(self, database: Database) -> None:
        await sealed(database, 2)
        await tamper(database, "UPDATE audit_anchors SET removed = 1")
        with pytest.raises(SealingRefused):
            await AuditRetention(database, SEALING, 30).remove(LATER)


class TestSteps:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retention, "STEP_ENTRIES", 10)
        monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.01)

    @pytest.mark.parametrize(("entries", "steps"), [(9, 1), (10, 2), (11, 2), (25, 3)])
    async def test_each_is_a_transaction_of_its_own(self, database: Database, entries: int, steps: int) -> None:
        await sealed(database, entries)
        begun: list[Any] = []
        event.listen(database.engine.sync_engine, "begin", begun.append)
        assert await AuditRetention(database, SEALING, 30).remove(LATER) == entries
        assert len(begun) == steps
        assert kinds(await verify(database)) == []

    async def test_one_that_breaks_off_leaves_a_chain(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await sealed(database, 25)
        real, calls = chain_repository.add_anchor, 0

        async def breaking(session: Any, anchor: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise OSError("the process died")
            await real(session, anchor)

        monkeypatch.setattr(chain_repository, "add_anchor", breaking)
        with pytest.raises(OSError, match="died"):
            await AuditRetention(database, SEALING, 30).remove(LATER)
        assert (await sequences(database))[:15] == list(range(11, 26))
        assert kinds(await verify(database)) == []
        assert await AuditRetention(database, SEALING, 30).remove(LATER) == 15
        assert kinds(await verify(database)) == []

    async def test_beside_the_sealer(self, database: Database) -> None:
        await sealed(database, 50)
        await add(database, 50)
        removed, _ = await asyncio.gather(AuditRetention(database, SEALING, 30).remove(LATER), seal(database))
        assert removed >= 50
        assert kinds(await verify(database)) == []


@pytest.mark.parametrize("database_kind", ["postgresql"])
class TestSeveralProcesses:
    async def test_it_waits_for_its_turn(self, database: Database) -> None:
        await sealed(database, 2)
        async with database.engine.connect() as elsewhere:
            await elsewhere.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": chain_repository.CHAIN_LOCK})
            removal = asyncio.create_task(AuditRetention(database, SEALING, 30).remove(LATER))
            done, _ = await asyncio.wait({removal}, timeout=0.3)
            assert not done
        assert await removal == 2

    async def test_two_at_once_remove_each_entry_once(self, database: Database) -> None:
        await sealed(database, 5)
        both = [AuditRetention(database, SEALING, 30).remove(LATER) for _ in range(2)]
        assert sum(await asyncio.gather(*both)) == 5
        assert await count(database) == 1
        assert kinds(await verify(database)) == []


class TestInTheServer:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        often = {"retention_interval_seconds": 0.05, "audit_retention_days": 30, "audit_seal_seconds": 0.02}
        return settings.model_copy(update=often)

    async def test_it_runs(self, database: Database) -> None:
        await add(database, occurred_at=datetime(2020, 1, 1, tzinfo=UTC))
        async with asyncio.timeout(10):
            while await newest(database, action="instance:create"):  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.02)

    async def test_a_failure_is_logged_and_ends_nothing(
        self, database: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        runs = asyncio.Semaphore(0)

        class Failing(AuditRetention):
            async def remove(self, now: datetime | None = None) -> int:
                runs.release()
                raise OSError("the database went away")

        task = asyncio.create_task(keep_removing(Failing(database, SEALING, 30).remove, 0.01, "old audit entries"))
        async with asyncio.timeout(10):
            for _ in range(3):
                await runs.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "could not be removed" in caplog.text
