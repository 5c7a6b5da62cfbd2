"""Quotas: how many instances a space takes, and how many rows of one file."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from asgi_correlation_id import correlation_id
from sqlalchemy import event, func, select

from app.config import Settings
from app.database import Database
from app.instances.batch_transactions import BatchTransactions
from app.models.instance import Instance
from tests.factories import Registry
from tests.instances.importing import Report, csv_of, import_csv, problem, rows, upload


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Small chunks, several at a time."""
    return settings.model_copy(update={"batch_chunk_rows": 3, "import_connections": 3})


async def limited(registry: Registry, instances: int | None = None, rows: int | None = None) -> int:
    name = f"limited-{instances}-{rows}"
    return int(await registry.insert("spaces", name=name, quota_instances=instances, quota_rows=rows))


async def stored(database: Database, space_id: int) -> int:
    statement = select(func.count()).where(Instance.space_id == space_id, Instance.deleted_at.is_(None))
    async with database.readers() as session:
        return (await session.execute(statement)).scalar_one()


async def create(client: httpx.AsyncClient, space_id: int, name: str) -> httpx.Response:
    body = {"name": name, "db_type": "mysql", "host": f"{name}.example", "space_id": space_id}
    return await client.post("/api/v1/instances", json=body)


def refused_for_quota(answer: httpx.Response) -> bool:
    return problem(answer) == (409, 25016) and answer.json()["errors"][0]["code"] == "quota_exceeded"


class TestSingle:
    async def test_is_refused_beyond_the_quota(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await limited(registry, 2)
        assert [(await create(client, space_id, name)).status_code for name in ("a", "b")] == [201, 201]
        answer = await create(client, space_id, "c")
        assert refused_for_quota(answer)
        assert "2 instances" in answer.json()["detail"]

    async def test_deleted_ones_do_not_count_and_restored_ones_do(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        space_id = await limited(registry, 1)
        first = (await create(client, space_id, "a")).json()["id"]
        await client.delete(f"/api/v1/instances/{first}")
        second = (await create(client, space_id, "b")).json()["id"]
        assert refused_for_quota(await client.post(f"/api/v1/instances/{first}/restore"))
        await client.delete(f"/api/v1/instances/{second}")
        assert (await client.post(f"/api/v1/instances/{first}/restore")).status_code == 200

    async def test_restoring_what_is_not_deleted_in_a_full_space(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        space_id = await limited(registry, 1)
        first = (await create(client, space_id, "a")).json()["id"]
        answer = await client.post(f"/api/v1/instances/{first}/restore")
        assert "is not deleted" in answer.json()["detail"]

    async def test_changes_are_not_counted(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await limited(registry, 1)
        first = (await create(client, space_id, "a")).json()["id"]
        await client.patch(f"/api/v1/spaces/{space_id}", json={"quota_instances": 0})
        assert (await client.patch(f"/api/v1/instances/{first}", json={"description": "x"})).status_code == 200

    async def test_of_many_at_once_just_as_many_come_in(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        space_id = await limited(registry, 3)
        answers = await asyncio.gather(*(create(client, space_id, f"n{number}") for number in range(8)))
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 5
        assert await stored(database, space_id) == 3

    async def test_of_many_restored_at_once(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        space_id, now = await limited(registry, 2), datetime.now(UTC)
        ids = [await registry.instance(space_id=space_id, deleted_at=now) for _ in range(6)]
        answers = await asyncio.gather(*(client.post(f"/api/v1/instances/{key}/restore") for key in ids))
        assert sorted(answer.status_code for answer in answers) == [200] * 2 + [409] * 4
        assert await stored(database, space_id) == 2


class TestImport:
    async def test_rows_beyond_the_quota_are_invalid_in_file_order(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        space_id = await limited(registry, 5)
        await registry.instance(space_id=space_id)
        report = await import_csv(client, csv_of(*rows(7)), space_id=space_id)
        assert report.counts == {"rows": 7, "created": 4, "invalid": 3}
        assert [line for line, status in report.statuses().items() if status == "invalid"] == [6, 7, 8]
        assert report.errors(6) == [(None, "quota_exceeded")]
        assert await stored(database, space_id) == 5

    async def test_rows_that_create_nothing_need_no_place(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await limited(registry, 3)
        await import_csv(client, csv_of("a,pg,a", "b,pg,b"), space_id=space_id)
        content = csv_of("bad name,pg,x", "a,pg,a2", "c,pg,c", "c,pg,again", "b,pg,b", "d,pg,d")
        report = await import_csv(client, content, space_id=space_id, on_existing="update")
        assert list(report.statuses().values()) == ["invalid", "updated", "created", "invalid", "unchanged", "invalid"]
        assert report.errors(7) == [(None, "quota_exceeded")]

    async def test_a_refused_row_claims_neither_name_nor_endpoint(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        space_id = await limited(registry, 0)
        report = await import_csv(client, csv_of("a,pg,a", "a,pg,b", "c,pg,a"), space_id=space_id)
        assert [report.errors(line) for line in (2, 3, 4)] == [[(None, "quota_exceeded")]] * 3

    async def test_a_dry_run_tells_the_same(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await limited(registry, 2)
        report = await import_csv(client, csv_of(*rows(3)), space_id=space_id, dry_run=True)
        assert list(report.statuses().values()) == ["created", "created", "invalid"]

    async def test_an_atomic_one_writes_nothing(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        space_id = await limited(registry, 2)
        answer = await upload(client, csv_of(*rows(3)), space_id=space_id, atomic=True)
        assert problem(answer) == (422, 25000)
        assert Report(answer.json()["report"]).errors(4) == [(None, "quota_exceeded")]
        assert await stored(database, space_id) == 0

    async def test_another_space_has_its_own(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id, other = await limited(registry, 1), await registry.space()
        await registry.instance(space_id=other)
        assert (await import_csv(client, csv_of(*rows(1)), space_id=space_id)).outcome == "complete"
        assert (await import_csv(client, csv_of(*rows(9)), space_id=other)).outcome == "complete"


class TestRowsOfOneFile:
    async def test_those_beyond_are_invalid_whatever_they_are(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        space_id = await limited(registry, rows=4)
        content = csv_of("bad name,pg,x", *rows(5), "also bad,pg,y")
        report = await import_csv(client, content, space_id=space_id)
        assert list(report.statuses().values()) == ["invalid", *["created"] * 3, *["invalid"] * 3]
        assert report.errors(6) == [(None, "quota_exceeded")]
        assert report.errors(8) == [("name", "invalid_format"), (None, "quota_exceeded")]

    async def test_just_as_many_are_taken_each_time(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await limited(registry, rows=4)
        assert (await import_csv(client, csv_of(*rows(4)), space_id=space_id)).counts == {"rows": 4, "created": 4}
        assert (await import_csv(client, csv_of(*rows(4)), space_id=space_id)).counts == {"rows": 4, "skipped": 4}


class TestRaces:
    async def test_two_imports_do_not_exceed_it_together(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both have judged their rows before either writes."""
        space_id = await limited(registry, 14)
        both, run = asyncio.Barrier(2), BatchTransactions.run
        waited: set[Any] = set()

        async def together(self: BatchTransactions, work: Any) -> Any:
            if (call := correlation_id.get()) not in waited:
                waited.add(call)
                await both.wait()
            return await run(self, work)

        monkeypatch.setattr(BatchTransactions, "run", together)
        files = [csv_of(*(f"{letter}{number},pg,{letter}{number}" for number in range(10))) for letter in "ab"]
        reports = await asyncio.gather(*(import_csv(client, each, space_id=space_id) for each in files))
        assert sum(report.counts.get("created", 0) for report in reports) == 14
        assert sum(report.counts.get("failed", 0) for report in reports) == 6
        codes = [error for report in reports for line in range(2, 12) for error in report.errors(line)]
        assert codes == [(None, "quota_exceeded")] * 6
        assert await stored(database, space_id) == 14

    @pytest.fixture
    def before_writing(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Awaitable[Any]]], None]:
        def install(rival: Callable[[], Awaitable[Any]]) -> None:
            run, pending = BatchTransactions.run, [rival]

            async def after_the_rival(self: BatchTransactions, *arguments: Any) -> Any:
                while pending:
                    await pending.pop()()
                return await run(self, *arguments)

            monkeypatch.setattr(BatchTransactions, "run", after_the_rival)

        return install

    async def test_places_taken_meanwhile_are_missed_by_as_many_rows(
        self, client: httpx.AsyncClient, registry: Registry, before_writing: Any
    ) -> None:
        space_id = await limited(registry, 4)
        await import_csv(client, csv_of("old,pg,old"), space_id=space_id)
        before_writing(lambda: registry.instance(space_id=space_id))
        content = csv_of("n1,pg,n1", "old,pg,changed", "n2,pg,n2", "n3,pg,n3")
        report = await import_csv(client, content, space_id=space_id, on_existing="update")
        assert report.counts == {"rows": 4, "created": 2, "updated": 1, "failed": 1}
        assert report.statuses()[3] == "updated"

    async def test_an_atomic_one_is_undone(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, before_writing: Any
    ) -> None:
        space_id = await limited(registry, 4)
        before_writing(lambda: registry.instance(space_id=space_id))
        answer = await upload(client, csv_of(*rows(4)), space_id=space_id, atomic=True)
        assert problem(answer) == (409, 25016)
        report = Report(answer.json()["report"])
        assert [error for line in range(2, 6) for error in report.errors(line)].count((None, "quota_exceeded")) == 1
        assert await stored(database, space_id) == 1


class TestCost:
    async def test_without_a_quota_nothing_is_counted(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        """One statement a chunk tells that the space is open; with a quota there is another that counts."""
        statements: list[str] = []
        engine = database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
        counts = {}
        for space_id in (await registry.space(), await limited(registry, 100)):
            statements.clear()
            await import_csv(client, csv_of(*rows(6)), space_id=space_id)
            counts[space_id] = sum("count(*)" in each.lower() and "instances" in each for each in statements)
            limits = sum("FROM spaces" in each and "quota" in each for each in statements)
            assert limits == (2 if database.is_sqlite else 3), "PostgreSQL looks up on this engine too"
        assert list(counts.values()) == ([0, 2] if database.is_sqlite else [0, 3])
