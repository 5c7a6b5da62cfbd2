"""What a sync's counts say about what it found."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.capacity.records import DatabaseSize, Sizes
from app.config import Settings
from app.database import Database
from app.inventory.records import FoundDatabase, SyncCounts
from app.models.base import utc_now
from app.models.sync import SyncKind
from tests.factories import Registry
from tests.syncs.syncing import FakeServers, Syncs, credential, server_at, tables

HOST = "10.0.0.1"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"server_worker": "off"})


class Measured:
    """A server of which a test says what it has, and what the next sync counts."""

    def __init__(self, syncs: Syncs, servers: FakeServers, instance_id: int) -> None:
        self._syncs = syncs
        self._servers = servers
        self._id = instance_id

    async def counts(self, sizes: Mapping[str, int], owners: Mapping[str, str] | None = None) -> SyncCounts:
        """With these sizes of databases, all owned by the same unless `owners` says otherwise."""
        owners = owners or {}
        server = self._servers[HOST]
        server.databases = [FoundDatabase(name, owner=owners.get(name, "dba")) for name in sizes]
        server.sizes = Sizes([DatabaseSize(name, size) for name, size in sizes.items()])
        operation = await self._syncs.sync([self._id], kinds=[SyncKind.CAPACITY])
        [record] = await self._syncs.records(operation)
        [item] = await self._syncs.items(operation)
        counts = SyncCounts(*(record[name] for name in SyncCounts._fields))
        assert counts._asdict().items() <= item["detail"]["kinds"]["capacity"].items()
        return counts


@pytest.fixture
async def measured(app: FastAPI, admin: int, registry: Registry, servers: FakeServers) -> Measured:
    instance_id = await server_at(registry, HOST, credential_id=await credential(app, registry))
    return Measured(Syncs(app, admin), servers, instance_id)


class TestCapacity:
    async def test_counts_new_databases(self, measured: Measured) -> None:
        assert await measured.counts({"shop": 100, "empty": 0}) == SyncCounts(found=2, created=2)
        assert await measured.counts({"shop": 100, "empty": 0, "blog": 1}) == SyncCounts(3, created=1, unchanged=2)

    async def test_counts_other_sizes_as_updates(self, measured: Measured) -> None:
        await measured.counts({"shop": 100, "blog": 10, "wiki": 5})
        assert await measured.counts({"shop": 120, "blog": 9, "wiki": 5}) == SyncCounts(3, updated=2, unchanged=1)
        assert await measured.counts({"shop": 120, "blog": 9, "wiki": 5}) == SyncCounts(3, unchanged=3)

    async def test_compares_with_the_last_size_whenever_that_was(self, measured: Measured, database: Database) -> None:
        await measured.counts({"shop": 100, "blog": 10})
        earlier = utc_now() - timedelta(days=9)
        async with database.writers.begin() as session:
            for name in ("instance_size_stats", "database_size_stats"):
                await session.execute(update(tables[name]).values(collected_on=earlier.date(), collected_at=earlier))
        assert await measured.counts({"shop": 100, "blog": 11}) == SyncCounts(2, updated=1, unchanged=1)

    async def test_counts_each_database_once(self, measured: Measured) -> None:
        await measured.counts({"shop": 100, "blog": 10, "wiki": 5})
        counts = await measured.counts({"shop": 120, "blog": 10, "wiki": 5}, {"shop": "anna", "blog": "anna"})
        assert counts == SyncCounts(found=3, updated=2, unchanged=1)

    async def test_counts_those_that_are_gone_and_back(self, measured: Measured) -> None:
        await measured.counts({"shop": 100, "blog": 10})
        assert await measured.counts({"shop": 100}) == SyncCounts(found=1, removed=1, unchanged=1)
        assert await measured.counts({"shop": 100}) == SyncCounts(found=1, unchanged=1)
        assert await measured.counts({"shop": 100, "blog": 7}) == SyncCounts(found=2, created=1, unchanged=1)

    async def test_names_that_cannot_be_stored_are_the_same_in_both(self, measured: Measured) -> None:
        sizes = {"nul\x00": 1, "half\ud800": 2, "x" * 300: 3}
        assert await measured.counts(sizes) == SyncCounts(found=3, created=3)
        assert await measured.counts(sizes) == SyncCounts(found=3, unchanged=3)
        assert await measured.counts(dict.fromkeys(sizes, 9)) == SyncCounts(found=3, updated=3)
