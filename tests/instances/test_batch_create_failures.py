"""Batch create when the database, or a part of the service, fails half-way."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from app.config import Settings
from app.database import Database
from app.instances import batch_repository
from app.instances.chunk_writer import ChunkWriter
from app.models.audit import AuditEvent
from tests.factories import Registry
from tests.instances.importing import csv_of, import_csv, instances, problem, rows, upload


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One chunk at a time, so that a test can say which are written before the one that fails."""
    return settings.model_copy(update={"batch_chunk_rows": 3, "import_connections": 1})


class TransientFault(Exception):
    sqlstate = "40P01"


class TestFaults:
    @pytest.mark.parametrize("atomic", [False, True])
    async def test_a_deadlock_is_tried_again(
        self, client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, atomic: bool
    ) -> None:
        link_tags, faults = batch_repository.link_tags, [OperationalError("", None, TransientFault())]

        async def failing_once(*arguments: Any) -> None:
            if faults:
                raise faults.pop()
            await link_tags(*arguments)

        monkeypatch.setattr(batch_repository, "link_tags", failing_once)
        report = await import_csv(client, csv_of(*rows(4)), atomic=atomic)
        assert report.counts == {"rows": 4, "created": 4}
        async with database.readers() as session:
            actions = (await session.scalars(select(AuditEvent.action))).all()
        assert (actions.count("instance:create"), actions.count("instance:batch_create")) == (4, 1)

    async def test_a_chunk_that_fails_ends_the_batch_and_the_report_tells(
        self, client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.fail_in_chunk(3, monkeypatch)
        report = await import_csv(client, csv_of(*rows(8), "bad,sybase,x", "n0,pg,other", "last,pg,last"))
        assert report.outcome == "partial"
        assert report.counts == {"rows": 11, "created": 6, "invalid": 2, "failed": 3}
        assert [report.errors(line) for line in (8, 9, 12)] == [[(None, "not_written")]] * 3
        assert set(await instances(client)) == {f"n{number}" for number in range(6)}
        async with database.readers() as session:
            events = (await session.scalars(select(AuditEvent).order_by(AuditEvent.id))).all()
        assert [event.resource_name for event in events if event.action == "instance:create"] == [
            f"n{number}" for number in range(6)
        ]
        assert events[-1].outcome == "partial"

    async def test_a_chunk_that_fails_after_its_first_half_was_written(
        self, client: httpx.AsyncClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A chunk is written in parts after a race that left no trace; what is written of it is reported so."""
        write = ChunkWriter.write

        async def refusing(self: ChunkWriter, session: Any, chunk: Any) -> Any:
            if len(chunk.rows) > 1:
                # The same name twice, so that the database refuses the whole.
                chunk = type(chunk)([*chunk.rows, chunk.rows[0]], chunk.update_ids)
            elif chunk.rows[0].name == "n1":
                raise RuntimeError("not foreseen")
            return await write(self, session, chunk)

        monkeypatch.setattr(ChunkWriter, "write", refusing)
        report = await import_csv(client, csv_of(*rows(4)))
        assert report.statuses() == {2: "created", 3: "failed", 4: "failed", 5: "failed"}
        assert set(await instances(client)) == {"n0"}

    async def test_an_atomic_batch_that_fails_leaves_nothing(
        self, client: httpx.AsyncClient, registry: Registry, app: FastAPI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = await registry.counts()
        self.fail_in_chunk(3, monkeypatch)
        assert problem(await upload(client, csv_of(*rows(8)), atomic=True)) == (500, 25500)
        # Nothing but the entry about the failed call.
        assert await registry.counts() == before | {"audit_events": 1}
        assert list((app.state.settings.data_dir / "uploads").iterdir()) == []

    def fail_in_chunk(self, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        write, written = ChunkWriter.write, []

        async def failing(self: ChunkWriter, *arguments: Any) -> Any:
            written.append(arguments)
            if len(written) == number:
                raise RuntimeError("not foreseen")
            return await write(self, *arguments)

        monkeypatch.setattr(ChunkWriter, "write", failing)
