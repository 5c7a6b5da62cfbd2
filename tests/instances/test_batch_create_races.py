"""Batch create while others write: a race costs a row, never the batch."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, insert, text, update

from app.config import Settings
from app.database import Database
from app.instances import batch_repository
from app.instances.batch_transactions import BatchTransactions
from app.models.base import utc_now
from app.models.credential import Credential
from app.models.instance import Instance
from tests.factories import Registry
from tests.instances.importing import Report, csv_of, import_csv, instances, problem, rows, upload

Rival = Callable[[], Awaitable[object]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """One chunk at a time, so that the rival comes before all of them."""
    return settings.model_copy(update={"batch_chunk_rows": 3, "import_connections": 1})


@pytest.fixture
def before_writing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Rival], None]:
    """Lets a rival write, on a connection of its own, after everything was looked up and before anything is written."""

    def install(rival: Rival) -> None:
        run, pending = BatchTransactions.run, [rival]

        async def after_the_rival(self: BatchTransactions, *arguments: Any) -> Any:
            while pending:
                await pending.pop()()
            return await run(self, *arguments)

        monkeypatch.setattr(BatchTransactions, "run", after_the_rival)

    return install


async def execute(database: Database, *statements: Any) -> None:
    async with database.engine.begin() as connection:
        for statement in statements:
            await connection.execute(statement)


class TestLostRows:
    async def test_a_name_taken_meanwhile(
        self, client: httpx.AsyncClient, registry: Registry, before_writing: Callable[[Rival], None]
    ) -> None:
        before_writing(lambda: registry.instance(name="n4"))
        report = await import_csv(client, csv_of(*rows(8)))
        assert report.counts == {"rows": 8, "created": 7, "failed": 1}
        assert report.outcome == "partial"
        assert report.errors(6) == [("name", "conflict")]
        assert "instance_id" not in report.item(6)

    async def test_an_endpoint_taken_meanwhile(
        self, client: httpx.AsyncClient, registry: Registry, before_writing: Callable[[Rival], None]
    ) -> None:
        before_writing(lambda: registry.instance(name="rival", host="h0", endpoint_key="postgresql:h0:5432"))
        report = await import_csv(client, csv_of(*rows(4)))
        assert report.counts == {"rows": 4, "created": 3, "failed": 1}
        assert report.errors(2) == [("host", "conflict")]
        assert "rival" in report.item(2)["errors"][0]["message"]

    async def test_a_credential_deleted_meanwhile(
        self,
        client: httpx.AsyncClient,
        registry: Registry,
        database: Database,
        before_writing: Callable[[Rival], None],
    ) -> None:
        going, _ = await registry.credential("going"), await registry.credential("staying")
        before_writing(lambda: execute(database, delete(Credential).where(Credential.id == going)))
        report = await import_csv(
            client,
            csv_of("a,pg,a,staying", "b,pg,b,going", "c,pg,c,", columns="name,db_type,host,credential"),
        )
        assert report.statuses() == {2: "created", 3: "failed", 4: "created"}
        assert report.errors(3) == [("credential", "conflict")]

    async def test_several_at_once_in_several_chunks(
        self, client: httpx.AsyncClient, registry: Registry, before_writing: Callable[[Rival], None]
    ) -> None:
        async def rival() -> None:
            for name in ("n0", "n1", "n2", "n6"):
                await registry.instance(name=name)
            await registry.instance(host="h3", endpoint_key="postgresql:h3:5432")

        before_writing(rival)
        report = await import_csv(client, csv_of(*rows(9)))
        assert [line for line, status in report.statuses().items() if status == "failed"] == [2, 3, 4, 5, 8]
        assert report.counts == {"rows": 9, "created": 4, "failed": 5}

    async def test_an_updated_instance_that_is_gone_or_renamed(
        self, client: httpx.AsyncClient, database: Database, before_writing: Callable[[Rival], None]
    ) -> None:
        await import_csv(client, csv_of("a,pg,a", "b,pg,b", "c,pg,c"))
        before_writing(
            lambda: execute(
                database,
                update(Instance).where(Instance.name == "a").values(deleted_at=utc_now()),
                update(Instance).where(Instance.name == "b").values(name="renamed"),
            )
        )
        report = await import_csv(client, csv_of("a,pg,a2", "b,pg,b2", "c,pg,c2"), on_existing="update")
        assert report.statuses() == {2: "failed", 3: "failed", 4: "updated"}
        assert report.errors(2) == report.errors(3) == [("name", "conflict")]
        assert {name: item["host"] for name, item in (await instances(client)).items()} == {"renamed": "b", "c": "c2"}

    async def test_an_update_whose_endpoint_was_taken(
        self, client: httpx.AsyncClient, registry: Registry, before_writing: Callable[[Rival], None]
    ) -> None:
        await import_csv(client, csv_of("a,pg,a", "b,pg,b"))
        before_writing(lambda: registry.instance(host="a2", endpoint_key="postgresql:a2:5432"))
        report = await import_csv(client, csv_of("a,pg,a2", "b,pg,b2"), on_existing="update")
        assert report.statuses() == {2: "failed", 3: "updated"}
        assert report.errors(2) == [("host", "conflict")]

    async def test_what_can_no_longer_be_seen_costs_one_row(
        self, client: httpx.AsyncClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A rival that has gone again by the time of the second look: the chunk is halved around its row."""
        insert_instances = batch_repository.insert_instances

        async def refusing(session: Any, space_id: int, ids: Any, values: Any, now: Any) -> None:
            values = list(values)
            if any(row[0] == "n1" for row in values):
                values.append((values[0][0], *values[0][1:]))
                ids = [*ids, max(ids) + 1_000]
            await insert_instances(session, space_id, ids, values, now)

        monkeypatch.setattr(batch_repository, "insert_instances", refusing)
        report = await import_csv(client, csv_of(*rows(3)))
        assert report.statuses() == {2: "created", 3: "failed", 4: "created"}
        assert report.errors(3) == [("name", "conflict")]


class TestWaiting:
    @pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
    async def test_for_a_writer_that_has_not_committed_yet(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        values = {
            "space_id": await registry.default_space(), "name": "n1", "db_type": "mysql", "host": "x", "port": 1,
            "endpoint_key": "mysql:x:1",
        }  # fmt: skip
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        async with database.engine.connect() as rival, database.read_engine.connect() as watcher:
            await rival.execute(insert(Instance).values(**values))
            importing = asyncio.create_task(import_csv(client, csv_of(*rows(3))))
            while not (await watcher.execute(waiting)).scalar_one():
                assert not importing.done()
                await asyncio.sleep(0.01)
            await rival.commit()
            report = await importing
        assert report.statuses() == {2: "created", 3: "failed", 4: "created"}


class TestTwoImportsAtOnce:
    async def test_each_name_exactly_once(self, client: httpx.AsyncClient) -> None:
        text = csv_of(
            *(f"{row},common|t{number}" for number, row in enumerate(rows(8))), columns="name,db_type,host,tags"
        )
        reports = await asyncio.gather(*(import_csv(client, text) for _ in range(3)))
        stored = await instances(client)
        assert set(stored) == {f"n{number}" for number in range(8)}
        for line in range(2, 10):
            items = [report.item(line) for report in reports]
            [created] = [item for item in items if item["status"] == "created"]
            assert stored[created["name"]]["id"] == created["instance_id"]
            assert all(item["status"] in {"created", "skipped", "failed"} for item in items)

    async def test_updates_of_the_same(self, client: httpx.AsyncClient) -> None:
        await import_csv(client, csv_of(*rows(6)))
        upwards = csv_of(*(f"n{number},pg,up{number}" for number in range(6)))
        downwards = csv_of(*(f"n{number},pg,down{number}" for number in reversed(range(6))))
        reports: list[Report] = await asyncio.gather(
            *(import_csv(client, text, on_existing="update") for text in (upwards, downwards))
        )
        assert [report.counts for report in reports] == [{"rows": 6, "updated": 6}] * 2
        assert {item["revision"] for item in (await instances(client)).values()} == {3}


class TestAtomic:
    async def test_a_lost_row_means_that_nothing_is_written(
        self, client: httpx.AsyncClient, registry: Registry, before_writing: Callable[[Rival], None]
    ) -> None:
        before_writing(lambda: registry.instance(name="n4"))
        answer = await upload(client, csv_of(*rows(8)), atomic=True)
        assert problem(answer) == (409, 25016)
        report = Report(answer.json()["report"])
        assert report.counts == {"rows": 8, "failed": 8}
        assert report.errors(6) == [("name", "conflict")]
        assert report.errors(2) == [(None, "not_written")]
        assert set(await instances(client)) == {"n4"}
        assert (await client.get("/api/v1/tags")).json()["items"] == []

    async def test_so_does_an_updated_instance_that_is_gone(
        self, client: httpx.AsyncClient, database: Database, before_writing: Callable[[Rival], None]
    ) -> None:
        await import_csv(client, csv_of("a,pg,a", "b,pg,b"))
        before_writing(
            lambda: execute(database, update(Instance).where(Instance.name == "b").values(deleted_at=utc_now()))
        )
        answer = await upload(client, csv_of("a,pg,a2", "b,pg,b2", "c,pg,c"), atomic=True, on_existing="update")
        assert problem(answer) == (409, 25016)
        report = Report(answer.json()["report"])
        assert report.errors(3) == [("name", "conflict")]
        assert {name: item["host"] for name, item in (await instances(client)).items()} == {"a": "a"}
