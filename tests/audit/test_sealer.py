"""Entries get their place and seal in steps, whoever writes, seals or dies meanwhile."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, insert, text

from app.audit import background, chain_repository, sealer
from app.audit.background import keep_sealing
from app.audit.chain import BEGINNING, Sealing
from app.audit.recorder import AuditEntry, record, record_many
from app.audit.sealer import AuditSealer, SealingRefused
from app.config import Settings
from app.database import Database
from app.main import create_app
from tests.audit.trail import FULL, SEALING, add, count, events, kinds, newest, places, seal, tamper, verify


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The server's own sealer stays out of the way."""
    return settings.model_copy(update={"audit_seal_seconds": 3600.0})


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer, "STEP_ENTRIES", 10)
    monkeypatch.setattr(sealer, "TURN_ENTRIES", 3)


def transactions(database: Database) -> list[Any]:
    """Fills while it is used: those that can write."""
    begun: list[Any] = []

    def note(connection: Any) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            begun.append(connection)

    event.listen(database.engine.sync_engine, "begin", note)
    return begun


class TestSeal:
    async def test_numbers_entries_in_order_of_id(self, database: Database) -> None:
        await add(database, 5)
        assert await seal(database) == 5
        assert [sequence for _, sequence in await places(database)] == [1, 2, 3, 4, 5]

    async def test_each_seal_is_over_the_one_before(self, database: Database) -> None:
        await add(database, 3)
        await seal(database)
        async with database.readers() as session:
            rows = await chain_repository.sealed_after(session, 0, 10)
        assert [row.seal for row in rows] == [link.seal for link in SEALING.chain(BEGINNING, [r.values for r in rows])]
        assert len({row.seal for row in rows}) == 3

    async def test_goes_on_where_it_ended(self, database: Database) -> None:
        await add(database, 2)
        await seal(database)
        before = await newest(database)
        await add(database, 2)
        assert await seal(database) == 2
        assert (await newest(database))[2:] == before
        assert [sequence for _, sequence in await places(database)] == [1, 2, 3, 4]
        assert kinds(await verify(database)) == []

    async def test_nothing_to_seal_writes_nothing(self, database: Database) -> None:
        begun = transactions(database)
        assert await seal(database) == 0
        assert begun == []
        assert await count(database, "audit_anchors") == 0

    async def test_begins_with_an_anchor(self, database: Database) -> None:
        await add(database)
        await seal(database)
        async with database.readers() as session:
            anchor = await chain_repository.newest_anchor(session)
        assert anchor is not None
        assert (anchor.end, anchor.removed) == (BEGINNING, 0)
        assert SEALING.is_genuine(anchor)

    async def test_what_services_record_one_by_one_and_in_bulk_and_by_deletion(
        self, database: Database, client: Any
    ) -> None:
        made = await client.post("/api/v1/instances", json={"name": "a", "db_type": "pg", "host": "h"})
        await client.delete(f"/api/v1/instances/{made.json()['id']}?mode=hard")
        entry = AuditEntry("x:y", "x", None, "\u6570", None, changes={"b": [1, 2.5], "a": {"z": None, "y": True}})
        async with database.writers.begin() as session:
            await record(session, entry)
            await record_many(session, [entry] * 3)
        assert await seal(database) == await count(database)
        assert kinds(await verify(database)) == []


class TestSteps:
    @pytest.mark.parametrize(("entries", "steps"), [(9, [9]), (10, [10, 0]), (11, [10, 1]), (25, [10, 10, 5])])
    async def test_each_is_a_transaction_of_its_own(
        self, database: Database, small_steps: None, entries: int, steps: list[int]
    ) -> None:
        await add(database, entries)
        begun = transactions(database)
        assert await seal(database) == entries
        assert len(begun) == len(steps)
        assert [sequence for _, sequence in await places(database)] == list(range(1, entries + 1))
        assert kinds(await verify(database)) == []

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_one_that_breaks_off_leaves_nothing_behind(
        self, database: Database, small_steps: None, monkeypatch: pytest.MonkeyPatch, when: str
    ) -> None:
        await add(database, 25)
        real, calls = chain_repository.set_seals, 0

        async def breaking(session: Any, rows: Any, links: Any) -> None:
            nonlocal calls
            calls += 1
            if calls != 2 or when == "after":
                await real(session, rows, links)
            if calls == 2:
                raise OSError("the process died")

        monkeypatch.setattr(chain_repository, "set_seals", breaking)
        with pytest.raises(OSError, match="died"):
            await seal(database)
        assert [s for _, s in await places(database)] == [*range(1, 11), *[None] * 15]
        assert await seal(database) == 15
        assert [s for _, s in await places(database)] == list(range(1, 26))
        assert kinds(await verify(database)) == []

    async def test_others_write_in_between(self, database: Database, small_steps: None) -> None:
        await add(database, 200)
        sealing = asyncio.create_task(seal(database))
        written = 0
        while not sealing.done():
            await add(database)
            written += 1
            await asyncio.sleep(0)
        assert written > 2
        await seal(database)
        assert [s for _, s in sorted(await places(database), key=lambda place: place[1] or 0)] == list(
            range(1, 201 + written)
        )
        assert kinds(await verify(database)) == []


class TestSeveral:
    async def test_two_at_once_give_each_place_once(
        self, database: Database, small_steps: None, settings: Settings
    ) -> None:
        """The second works over connections of its own, as another process would."""
        await add(database, 100)
        other = Database(settings)
        try:
            async with asyncio.timeout(60):
                while (await verify(database)).unsealed:
                    await asyncio.gather(seal(database), seal(other), seal(database))
        finally:
            await other.dispose()
        assert [sequence for _, sequence in await places(database)] == list(range(1, 101))
        assert kinds(await verify(database)) == []

    @pytest.mark.parametrize("database_kind", ["postgresql"])
    async def test_nothing_is_done_while_another_process_is_at_it(self, database: Database) -> None:
        await add(database, 3)
        async with database.engine.begin() as elsewhere:
            await elsewhere.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": chain_repository.CHAIN_LOCK})
            assert await seal(database) == 0
        assert await seal(database) == 3


@pytest.mark.parametrize("database_kind", ["postgresql"])
class TestLateCommits:
    async def test_an_older_entry_that_is_committed_later_gets_the_next_place(self, database: Database) -> None:
        late = await database.engine.connect()
        try:
            await late.begin()
            await late.execute(insert(events).values(**FULL | {"resource_name": "late"}))
            await add(database, 2)
            assert await seal(database) == 2
            assert kinds(await verify(database)) == []
            await late.commit()
        finally:
            await late.close()
        assert (await verify(database)).unsealed == 1
        assert await seal(database) == 1
        [entry] = await newest(database, resource_name="late")
        assert entry["sequence"] == 3
        assert entry["id"] == min(id for id, _ in await places(database))
        assert kinds(await verify(database)) == []

    async def test_one_that_is_rolled_back_leaves_no_gap(self, database: Database) -> None:
        late = await database.engine.connect()
        await late.begin()
        await late.execute(insert(events).values(**FULL))
        await add(database)
        await seal(database)
        await late.close()
        await add(database)
        await seal(database)
        assert [sequence for _, sequence in await places(database)] == [1, 2]
        assert kinds(await verify(database)) == []


class TestKey:
    async def test_another_key_seals_nothing(self, database: Database) -> None:
        await add(database, 2)
        await seal(database)
        await add(database)
        with pytest.raises(SealingRefused, match="another key"):
            await AuditSealer(database, Sealing(b"another key, of thirty-two bytes")).seal()
        assert [sequence for _, sequence in await places(database)] == [1, 2, None]

    async def test_nor_does_it_after_the_anchor_was_changed(self, database: Database) -> None:
        await add(database)
        await seal(database)
        await tamper(database, "UPDATE audit_anchors SET removed = 7")
        await add(database)
        with pytest.raises(SealingRefused):
            await seal(database)


class TestInTheServer:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"audit_seal_seconds": 0.02})

    async def test_it_seals_again_and_again(self, database: Database) -> None:
        for number in (1, 2):
            await add(database)
            async with asyncio.timeout(10):
                while (await places(database))[-1][1] != number:  # noqa: ASYNC110 - the database tells nobody
                    await asyncio.sleep(0.02)

    async def test_with_a_key_in_the_data_directory(self, settings: Settings) -> None:
        application = create_app(settings)
        async with application.router.lifespan_context(application):
            path = settings.data_dir / "audit.key"
            assert path.stat().st_mode & 0o777 == 0o600
            assert len(path.read_text().strip()) == 64

    async def test_a_failure_is_logged_and_ends_nothing(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        runs = asyncio.Semaphore(0)

        class Failing(AuditSealer):
            async def seal(self) -> int:
                runs.release()
                raise OSError("the database went away")

        monkeypatch.setattr(background, "FAILURE_PAUSE_SECONDS", 0.01)
        task = asyncio.create_task(keep_sealing(Failing(database, SEALING), 0.01))
        async with asyncio.timeout(10):
            for _ in range(3):
                await runs.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "could not be sealed" in caplog.text
