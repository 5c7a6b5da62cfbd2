"""`GET /instances/statistics`."""

from datetime import UTC, datetime

import httpx
import pytest

from tests.factories import Registry

URL = "/api/v1/instances/statistics"
NO_TYPES = dict.fromkeys(("mysql", "mariadb", "postgresql", "sqlserver", "oracle", "redis", "mongodb"), 0)
NO_ENVIRONMENTS = dict.fromkeys(("production", "staging", "testing", "development"), 0)


class TestCounts:
    async def test_an_empty_registry_counts_nothing(self, client: httpx.AsyncClient) -> None:
        assert (await client.get(URL)).json() == {
            "total": 0,
            "db_type": NO_TYPES,
            "environment": NO_ENVIRONMENTS,
            "status": {"active": 0, "disabled": 0, "deleted": 0},
            "tag": {},
        }

    async def test_deleted_ones_count_as_a_status_only(self, client: httpx.AsyncClient, registry: Registry) -> None:
        red, blue = await registry.tag("red"), await registry.tag("blue")
        await registry.tag("unused")
        instances = [
            await registry.instance(),
            await registry.instance(db_type="oracle", is_active=False, environment="testing"),
            await registry.instance(db_type="oracle"),
            await registry.instance(db_type="redis", deleted_at=datetime.now(UTC), is_active=False),
        ]
        for instance_id in instances:
            await registry.insert("instance_tags", instance_id=instance_id, tag_id=red)
        await registry.insert("instance_tags", instance_id=instances[0], tag_id=blue)
        assert (await client.get(URL)).json() == {
            "total": 3,
            "db_type": NO_TYPES | {"mysql": 1, "oracle": 2},
            "environment": NO_ENVIRONMENTS | {"production": 2, "testing": 1},
            "status": {"active": 2, "disabled": 1, "deleted": 1},
            "tag": {"blue": 1, "red": 3},
        }

    async def test_tags_of_one_name_in_several_spaces_are_one(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        for space_id in (await registry.default_space(), await registry.space()):
            tag_id = await registry.tag("red", space_id=space_id)
            instance_id = await registry.instance(space_id=space_id)
            await registry.insert("instance_tags", instance_id=instance_id, tag_id=tag_id)
        assert (await client.get(URL)).json()["tag"] == {"red": 2}


class TestSpace:
    async def test_counts_of_one_space(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        await registry.instance()
        tag_id = await registry.tag("red", space_id=space_id)
        instance_id = await registry.instance(space_id=space_id, db_type="redis")
        await registry.insert("instance_tags", instance_id=instance_id, tag_id=tag_id)
        counts = (await client.get(URL, params={"space_id": space_id})).json()
        assert (counts["total"], counts["db_type"]["redis"], counts["tag"]) == (1, 1, {"red": 1})
        default = (await client.get(URL, params={"space_id": await registry.default_space()})).json()
        assert (default["total"], default["db_type"]["mysql"], default["tag"]) == (1, 1, {})

    @pytest.mark.parametrize(
        ("space_id", "status"), [(2**63 - 1, 404), (0, 422), (-1, 422), (2**63, 422), (2**64, 422)]
    )
    async def test_one_that_does_not_exist(self, client: httpx.AsyncClient, space_id: int, status: int) -> None:
        assert (await client.get(URL, params={"space_id": space_id})).status_code == status
