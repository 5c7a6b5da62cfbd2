"""`POST /instances/batch-create`: what becomes of every row, and what is written."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.config import Settings
from app.database import Database
from app.models.audit import AuditEvent
from tests.factories import Registry
from tests.instances.importing import Report, csv_of, import_csv, instances

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Chunks of three rows, so that every test of more rows crosses a boundary."""
    return settings.model_copy(update={"batch_chunk_rows": 3})


async def audited(database: Database) -> list[AuditEvent]:
    async with database.readers() as session:
        return list(await session.scalars(select(AuditEvent).order_by(AuditEvent.id)))


class TestMessyFile:
    def expected(self) -> dict[str, Any]:
        return dict(json.loads((DATA / "messy.expected.json").read_text()))

    def compare(self, report: Report) -> None:
        expected = self.expected()
        assert report.outcome == expected["outcome"]
        assert {name: report.body["counts"][name] for name in expected["counts"]} == expected["counts"]
        found = {str(line): [status, *map(list, report.errors(line))] for line, status in report.statuses().items()}
        assert found == expected["items"]

    async def test_every_row_gets_its_verdict(self, client: httpx.AsyncClient) -> None:
        report = await import_csv(client, (DATA / "messy.csv").read_bytes())
        self.compare(report)
        assert (report.body["encoding"], report.body["delimiter"]) == ("utf-8", ",")
        stored = await instances(client)
        created = {report.item(line)["name"]: report.id_of(line) for line in (2, 4, 10, 13, 15)}
        assert {name: item["id"] for name, item in stored.items()} == created

    async def test_what_is_stored(self, client: httpx.AsyncClient) -> None:
        await import_csv(client, (DATA / "messy.csv").read_bytes())
        stored = await instances(client)
        assert stored["multi"]["description"] == "a cell\nover two lines"
        assert stored["multi"]["tags"] == ["gold", "核心"]
        assert (stored["my-a"]["port"], stored["v6"]["host"]) == (3306, "2001:db8::7")
        assert (stored["last"]["db_type"], stored["multi"]["environment"]) == ("sqlserver", "development")

    async def test_a_dry_run_says_the_same_and_writes_nothing(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        before = await registry.counts()
        report = await import_csv(client, (DATA / "messy.csv").read_bytes(), dry_run=True)
        self.compare(report)
        assert report.body["dry_run"] is True
        assert [item["instance_id"] for item in report.body["items"] if item["status"] == "created"] == [None] * 5
        assert await registry.counts() == before


class TestDuplicatesInTheFile:
    async def test_the_first_good_row_stands(self, client: httpx.AsyncClient) -> None:
        report = await import_csv(
            client, csv_of("a,pg,h1", "b,pg,h2", "c,pg,h3", "d,pg,h4", "a,pg,h5", "e,pg,H4.", "d,pg,h1")
        )
        assert report.counts == {"rows": 7, "created": 4, "invalid": 3}
        assert [report.errors(line) for line in (6, 7, 8)] == [
            [("name", "duplicate_in_file")],
            [("host", "duplicate_in_file")],
            [("name", "duplicate_in_file"), ("host", "duplicate_in_file")],
        ]
        assert "line 2" in report.item(6)["errors"][0]["message"]
        assert "line 5" in report.item(7)["errors"][0]["message"]
        assert report.item(6)["errors"][0]["value"] == "a"

    async def test_an_invalid_row_claims_nothing(self, client: httpx.AsyncClient) -> None:
        text = csv_of("a,pg,h1,x", "b,pg,h2,0", "a,pg,h1,1", "b,pg,h2,2", columns="name,db_type,host,port")
        report = await import_csv(client, text)
        assert report.statuses() == {2: "invalid", 3: "invalid", 4: "created", 5: "created"}

    async def test_nor_does_a_row_that_the_database_refuses(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        await registry.instance(name="there", host="taken", endpoint_key="mysql:taken:3306")
        text = csv_of(
            "a,pg,h1,nobody", "b,mysql,taken,", "x,pg,x,", "a,pg,h1,", "b,pg,h2,", "a,pg,h9,",
            columns="name,db_type,host,credential",
        )  # fmt: skip
        report = await import_csv(client, text)
        assert report.errors(2) == [("credential", "credential_not_found")]
        assert report.errors(3) == [("host", "endpoint_exists")]
        assert report.statuses() == {
            2: "invalid", 3: "invalid", 4: "created", 5: "created", 6: "created", 7: "invalid",
        }  # fmt: skip
        assert "line 5" in report.item(7)["errors"][0]["message"]

    async def test_a_skipped_row_claims(self, client: httpx.AsyncClient, registry: Registry) -> None:
        known = await registry.instance(name="known")
        report = await import_csv(client, csv_of("known,pg,h1", "known,pg,h2", "other,pg,h1"))
        assert report.statuses() == {2: "skipped", 3: "invalid", 4: "invalid"}
        assert report.id_of(2) == known


class TestKnownNames:
    async def test_are_skipped_by_default(self, client: httpx.AsyncClient, registry: Registry) -> None:
        known = await registry.instance(name="known", description="as it was")
        report = await import_csv(client, csv_of("known,pg,elsewhere", "new,pg,h"))
        assert report.outcome == "complete"
        assert report.item(2) == {
            "line": 2, "name": "known", "status": "skipped", "instance_id": known,
            "errors": [
                {
                    "column": "name",
                    "code": "name_exists",
                    "message": "an instance named known is registered already",
                }
            ],
        }  # fmt: skip
        stored = (await instances(client))["known"]
        assert (stored["revision"], stored["description"]) == (1, "as it was")

    async def test_are_invalid_under_fail(self, client: httpx.AsyncClient, registry: Registry) -> None:
        await registry.instance(name="known")
        report = await import_csv(client, csv_of("known,pg,h1", "new,pg,h2"), on_existing="fail")
        assert report.statuses() == {2: "invalid", 3: "created"}
        assert report.errors(2) == [("name", "name_exists")]

    async def test_a_known_endpoint_under_another_name_is_always_invalid(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        owner = await registry.instance(name="owner", host="h", endpoint_key="mysql:h:3306")
        await registry.instance(name="known")
        for on_existing in ("skip", "update", "fail"):
            report = await import_csv(client, csv_of("new,mysql,H", "known,mysql,h"), on_existing=on_existing)
            assert report.counts == {"rows": 2, "invalid": 2}
            assert report.errors(2) == [("host", "endpoint_exists")]
            assert ("host", "endpoint_exists") in report.errors(3)
            message = report.item(2)["errors"][0]["message"]
            assert "owner" in message
            assert str(owner) in message

    async def test_deleted_ones_are_free_again(self, client: httpx.AsyncClient) -> None:
        first = await import_csv(client, csv_of("a,pg,h"))
        assert (await client.delete(f"/api/v1/instances/{first.id_of(2)}")).status_code == 200
        second = await import_csv(client, csv_of("a,pg,h"), on_existing="fail")
        assert second.counts == {"rows": 1, "created": 1}
        assert second.id_of(2) != first.id_of(2)

    async def test_names_differ_by_case(self, client: httpx.AsyncClient) -> None:
        assert (await import_csv(client, csv_of("a,pg,h1", "A,pg,h2"))).counts == {"rows": 2, "created": 2}


class TestCredentialsAndTags:
    async def test_credentials_are_found_by_name_in_the_space(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        credential = await registry.credential("ops")
        await registry.credential("theirs", space_id=await registry.space())
        text = csv_of("a,pg,h1,ops", "b,pg,h2,theirs", "c,pg,h3,OPS", columns="name,db_type,host,credential")
        report = await import_csv(client, text)
        assert report.statuses() == {2: "created", 3: "invalid", 4: "invalid"}
        assert report.errors(3) == [("credential", "credential_not_found")]
        assert report.item(3)["errors"][0]["value"] == "theirs"
        assert (await instances(client))["a"]["credential_id"] == credential

    async def test_tags_are_made_once(self, client: httpx.AsyncClient, registry: Registry) -> None:
        gold = await registry.tag("gold")
        rows = [f"a{number},pg,h{number},gold|t{number % 2}|new" for number in range(7)]
        await import_csv(client, csv_of(*rows, columns="name,db_type,host,tags"))
        tags = {tag["name"]: tag["id"] for tag in (await client.get("/api/v1/tags")).json()["items"]}
        assert set(tags) == {"gold", "new", "t0", "t1"}
        assert tags["gold"] == gold
        assert (await instances(client))["a6"]["tags"] == ["gold", "new", "t0"]

    async def test_tags_of_rows_that_are_not_written_are_not_made(self, client: httpx.AsyncClient) -> None:
        await import_csv(client, csv_of("a,pg,,bad", "b,pg,h,good", columns="name,db_type,host,tags"))
        assert [tag["name"] for tag in (await client.get("/api/v1/tags")).json()["items"]] == ["good"]


class TestSpaces:
    async def test_each_has_names_and_endpoints_of_its_own(self, client: httpx.AsyncClient, registry: Registry) -> None:
        elsewhere = await registry.space()
        assert (await import_csv(client, csv_of("a,pg,h"))).counts == {"rows": 1, "created": 1}
        report = await import_csv(client, csv_of("a,pg,h"), space_id=elsewhere, on_existing="fail")
        assert report.counts == {"rows": 1, "created": 1}
        assert set(await instances(client, space_id=elsewhere)) == {"a"}


class TestChunks:
    async def test_boundaries_lose_no_row(self, client: httpx.AsyncClient, registry: Registry) -> None:
        for rows in (1, 2, 3, 4, 6, 7):
            space = await registry.space()
            text = csv_of(*(f"a{number},pg,h{number}" for number in range(rows)))
            report = await import_csv(client, text, space_id=space)
            assert report.statuses() == dict.fromkeys(range(2, rows + 2), "created")
            ids = {item["name"]: item["instance_id"] for item in report.body["items"]}
            assert {name: item["id"] for name, item in (await instances(client, space_id=space)).items()} == ids

    async def test_more_rows_than_a_frame_holds(self, client: httpx.AsyncClient) -> None:
        rows = [f"a{number},pg,h{number}" for number in range(1_001)]
        report = await import_csv(client, csv_of(*rows, "a0,pg,other", "x,pg,h1000"), dry_run=True)
        assert report.counts == {"rows": 1_003, "created": 1_001, "invalid": 2}

    async def test_a_chunk_without_a_good_row(self, client: httpx.AsyncClient) -> None:
        report = await import_csv(client, csv_of(*["bad name,pg,h"] * 4, "a,pg,h"))
        assert report.counts == {"rows": 5, "created": 1, "invalid": 4}

    async def test_without_any_good_row_it_failed(self, client: httpx.AsyncClient) -> None:
        assert (await import_csv(client, csv_of("a,sybase,h"))).outcome == "failed"


class TestAudit:
    async def test_one_entry_for_each_instance_and_one_for_the_batch(
        self, client: httpx.AsyncClient, database: Database
    ) -> None:
        report = await import_csv(
            client, csv_of(*(f"a{n},pg,h{n},t" for n in range(4)), "bad,pg,,", columns="name,db_type,host,tags")
        )
        events = await audited(database)
        created = sorted(
            (event for event in events if event.action == "instance:create"), key=lambda event: str(event.resource_name)
        )
        assert [(event.resource_name, event.resource_id) for event in created] == [
            (f"a{n}", report.id_of(n + 2)) for n in range(4)
        ]
        assert created[0].changes is not None
        assert created[0].changes["after"]["tags"] == ["t"]
        [batch] = [event for event in events if event.action == "instance:batch_create"]
        assert batch.outcome == "partial"
        assert batch.changes is not None
        assert batch.changes["counts"] == report.body["counts"]
        assert {event.batch_id for event in created} == {batch.batch_id}
        assert all(event.request_id for event in events)

    async def test_rows_that_change_nothing_leave_no_entry(self, client: httpx.AsyncClient, database: Database) -> None:
        await import_csv(client, csv_of("a,pg,h"))
        for on_existing in ("skip", "update"):
            await import_csv(client, csv_of("a,pg,h"), on_existing=on_existing)
        actions = [event.action for event in await audited(database)]
        assert actions.count("instance:create") == 1
        assert actions.count("instance:update") == 0
        assert actions.count("instance:batch_create") == 3
