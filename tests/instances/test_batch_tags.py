"""`POST /instances/batch-tags`."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.config import Settings
from app.database import Database
from app.models.audit import AuditEvent
from app.models.tag import Tag
from tests.factories import Registry

URL = "/api/v1/instances/batch-tags"


async def tag(client: httpx.AsyncClient, ids: Sequence[int], **lists: Any) -> dict[str, Any]:
    answer = await client.post(URL, json={"instance_ids": list(ids)} | lists)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def read(client: httpx.AsyncClient, instance_id: int) -> dict[str, Any]:
    return dict((await client.get(f"/api/v1/instances/{instance_id}")).json())


async def tags_of(client: httpx.AsyncClient, instance_id: int) -> list[str]:
    return list((await read(client, instance_id))["tags"])


async def events(database: Database) -> list[AuditEvent]:
    """Those about instances, in the order in which they were written."""
    async with database.readers() as session:
        return list(
            await session.scalars(
                select(AuditEvent).where(AuditEvent.action.startswith("instance:")).order_by(AuditEvent.id)
            )
        )


def refusal(answer: httpx.Response) -> tuple[str, str]:
    assert answer.status_code == 422, answer.text
    [error] = answer.json()["errors"]
    return error["pointer"], error["code"]


class TestTagging:
    async def test_adds_and_removes(self, client: httpx.AsyncClient, registry: Registry) -> None:
        first, second = await registry.instance(), await registry.instance()
        assert await tag(client, [first, second], add=["red", "blue"]) == {
            "updated": 2, "unchanged": 0, "missing": [], "tags_created": 2,
        }  # fmt: skip
        assert await tag(client, [first], add=["green", "blue"], remove=["red"]) == {
            "updated": 1, "unchanged": 0, "missing": [], "tags_created": 1,
        }  # fmt: skip
        assert await tags_of(client, first) == ["blue", "green"]
        assert await tags_of(client, second) == ["blue", "red"]

    async def test_names_are_normalised_and_ids_count_once(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance()
        report = await tag(client, [instance_id, instance_id], add=[" red ", "red"])
        assert (report["updated"], report["tags_created"]) == (1, 1)
        assert await tags_of(client, instance_id) == ["red"]

    async def test_only_what_really_changes_rises(self, client: httpx.AsyncClient, registry: Registry) -> None:
        carrying, bare = await registry.instance(), await registry.instance()
        await tag(client, [carrying], add=["red"])
        before = await read(client, carrying), await read(client, bare)
        report = await tag(client, [carrying, bare], add=["red"], remove=["unknown"])
        assert (report["updated"], report["unchanged"], report["tags_created"]) == (1, 1, 0)
        after = await read(client, carrying), await read(client, bare)
        assert after[0] == before[0]
        assert after[1]["revision"] == before[1]["revision"] + 1
        assert after[1]["updated_at"] > before[1]["updated_at"]

    async def test_missing_and_deleted_ones_stop_nothing(self, client: httpx.AsyncClient, registry: Registry) -> None:
        deleted = await registry.instance(deleted_at=datetime.now(UTC))
        present = await registry.instance()
        assert await tag(client, [2**63 - 1, present, deleted, present + 1], add=["red"]) == {
            "updated": 1, "unchanged": 0, "missing": [deleted, present + 1, 2**63 - 1], "tags_created": 1,
        }  # fmt: skip
        assert await tags_of(client, deleted) == []

    async def test_where_all_are_missing_no_tag_is_made(self, client: httpx.AsyncClient, database: Database) -> None:
        report = await tag(client, [1, 2], add=["red"])
        assert (report["missing"], report["tags_created"]) == ([1, 2], 0)
        async with database.readers() as session:
            assert (await session.scalars(select(Tag.name))).all() == []

    async def test_each_space_has_its_own_tags(self, client: httpx.AsyncClient, registry: Registry) -> None:
        elsewhere = await registry.space()
        here, there = await registry.instance(), await registry.instance(space_id=elsewhere)
        assert (await tag(client, [here, there], add=["red"]))["tags_created"] == 2
        spaces = {item["space_id"] for item in (await client.get("/api/v1/tags")).json()["items"]}
        assert spaces == {elsewhere, await registry.default_space()}
        assert (await tag(client, [here, there], remove=["red"]))["updated"] == 2

    async def test_more_than_one_chunk(self, client: httpx.AsyncClient, registry: Registry, database: Database) -> None:
        first = await registry.instance()
        last = first
        for _ in range(4):
            last = await registry.instance()
        ids = [first, *range(last + 1, last + 2500), last]
        report = await tag(client, ids, add=["red"])
        assert (report["updated"], len(report["missing"])) == (2, 2499)


class TestRefusal:
    async def test_a_name_in_both_lists(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance()
        payload = {"instance_ids": [instance_id], "add": ["red", "blue"], "remove": ["blue "]}
        assert refusal(await client.post(URL, json=payload)) == ("/body/remove", "invalid_format")

    async def test_nothing_to_do(self, client: httpx.AsyncClient) -> None:
        assert refusal(await client.post(URL, json={"instance_ids": [1]})) == ("/body/add", "required")
        assert refusal(await client.post(URL, json={"instance_ids": [1], "add": []})) == ("/body/add", "required")

    @pytest.mark.parametrize("instance_id", [0, -1, 2**63, 2**64, "one", None, 1.5, [1]])
    async def test_an_id_that_none_can_have(self, client: httpx.AsyncClient, instance_id: object) -> None:
        answer = await client.post(URL, json={"instance_ids": [1, instance_id], "add": ["red"]})
        assert refusal(answer)[0] == "/body/instance_ids/1"

    async def test_no_ids(self, client: httpx.AsyncClient) -> None:
        assert refusal(await client.post(URL, json={"instance_ids": [], "add": ["red"]}))[0] == "/body/instance_ids"

    async def test_names_that_no_tag_can_have(self, client: httpx.AsyncClient) -> None:
        for name, code in (
            ("a|b", "invalid_format"),
            ("", "required"),
            ("a\x00", "invalid_format"),
            ("x" * 101, "too_long"),
        ):
            answer = await client.post(URL, json={"instance_ids": [1], "add": ["fine", name]})
            assert refusal(answer) == ("/body/add/1", code)

    async def test_too_many_tags_on_one_instance(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        full, empty = await registry.instance(), await registry.instance()
        await tag(client, [full], add=[f"t{number:02}" for number in range(50)])
        answer = await client.post(URL, json={"instance_ids": [empty, full], "add": ["one-more"]})
        assert refusal(answer) == ("/body/add", "out_of_range")
        assert str(full) in answer.json()["detail"]
        assert await tags_of(client, empty) == []
        assert (await tag(client, [empty, full], add=["one-more"], remove=["t00"]))["updated"] == 2

    async def test_unknown_members(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json={"instance_ids": [1], "add": ["a"], "set": ["b"]})
        assert refusal(answer) == ("/body/set", "extra_forbidden")


class TestTooManyIds:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_ids": 3})

    async def test_more_ids_than_configured(self, client: httpx.AsyncClient) -> None:
        assert (await tag(client, [1, 2, 3, 3], add=["red"]))["missing"] == [1, 2, 3]
        answer = await client.post(URL, json={"instance_ids": [1, 2, 3, 4], "add": ["red"]})
        assert refusal(answer) == ("/body/instance_ids", "too_long")


class TestAudit:
    async def test_one_entry_for_each_change_and_one_for_the_batch(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        first, second = await registry.instance(name="a"), await registry.instance(name="b")
        await tag(client, [first], add=["red"])
        await tag(client, [first, second, 10**6], add=["red", "blue"], remove=["green"])
        one, _, two, three, batch = await events(database)
        assert (one.resource_id, one.changes) == (first, {"tags": {"added": ["red"]}})
        assert (two.resource_id, two.changes) == (first, {"tags": {"added": ["blue"]}})
        assert (three.resource_name, three.changes) == ("b", {"tags": {"added": ["blue", "red"]}})
        assert {two.action, three.action} == {"instance:update"}
        assert (batch.action, batch.space_id) == ("instance:batch_tags", await registry.default_space())
        assert batch.changes is not None
        assert batch.changes["counts"] == {"updated": 2, "unchanged": 0, "missing": 1, "tags_created": 1}
        assert len({two.batch_id, three.batch_id, batch.batch_id}) == 1
        assert one.batch_id != batch.batch_id

    async def test_a_refused_batch_leaves_none(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        instance_id = await registry.instance()
        answer = await client.post(URL, json={"instance_ids": [instance_id], "add": ["a"], "remove": ["a"]})
        assert answer.status_code == 422
        assert await events(database) == []


class TestAtOnce:
    async def test_batches_over_the_same_instances_in_any_order_all_succeed(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        ids = [await registry.instance() for _ in range(6)]
        orders = [ids, ids[::-1], ids[3:] + ids[:3]] * 3
        answers = await asyncio.gather(
            *(
                client.post(URL, json={"instance_ids": order, "add": [f"t{n}", "shared"], "remove": [f"t{n - 1}"]})
                for n, order in enumerate(orders)
            )
        )
        assert [answer.status_code for answer in answers] == [200] * 9
        assert sum(answer.json()["tags_created"] for answer in answers) == 10
        for instance_id in ids:
            assert "shared" in await tags_of(client, instance_id)
