"""The tag calls."""

import asyncio
import base64
from datetime import datetime
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import select

from app.database import Database
from app.models.audit import AuditEvent
from app.models.instance import Instance
from app.tags import service
from tests.factories import Registry

URL = "/api/v1/tags"


async def create(client: httpx.AsyncClient, name: str, **values: Any) -> dict[str, Any]:
    answer = await client.post(URL, json={"name": name, **values})
    assert answer.status_code == 201, answer.text
    return answer.json()


def cursor_of(content: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(content)).decode()


async def carried(registry: Registry, count: int = 1) -> tuple[int, list[int]]:
    """A tag, and as many instances that carry it."""
    tag_id = await registry.tag("core")
    instance_ids = [await registry.instance() for _ in range(count)]
    for instance_id in instance_ids:
        await registry.insert("instance_tags", instance_id=instance_id, tag_id=tag_id)
    return tag_id, instance_ids


async def stamps(database: Database) -> dict[int, tuple[int, datetime]]:
    """Revision and time of the last change, by instance."""
    async with database.readers() as session:
        rows = await session.execute(select(Instance.id, Instance.revision, Instance.updated_at))
        return {instance_id: (revision, updated_at) for instance_id, revision, updated_at in rows}


async def audited(database: Database) -> list[tuple[str, str | None, dict[str, Any] | None]]:
    statement = select(AuditEvent.action, AuditEvent.resource_name, AuditEvent.changes).order_by(AuditEvent.id)
    async with database.readers() as session:
        return [tuple(row) for row in await session.execute(statement)]


class TestCreate:
    async def test_answers_the_tag_and_where_it_is(self, client: httpx.AsyncClient, registry: Registry) -> None:
        answer = await client.post(URL, json={"name": " core ", "color": "#2F80ED", "description": " pages "})
        body = answer.json()
        assert answer.status_code == 201
        assert body == {
            "id": body["id"],
            "space_id": await registry.default_space(),
            "name": "core",
            "color": "#2f80ed",
            "description": "pages",
            "revision": 1,
            "created_at": body["created_at"],
            "updated_at": body["updated_at"],
        }
        assert answer.headers["ETag"] == '"1"'
        assert answer.headers["Location"] == f"{URL}/{body['id']}"
        assert (await client.get(answer.headers["Location"])).json() == body

    async def test_in_a_space(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        assert (await create(client, "core", space_id=space_id))["space_id"] == space_id
        assert (await create(client, "core"))["space_id"] == await registry.default_space()

    async def test_in_a_space_that_does_not_exist(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json={"name": "core", "space_id": 99})
        assert (answer.status_code, answer.json()["code"]) == (404, 25015)

    async def test_a_taken_name_is_named(self, client: httpx.AsyncClient) -> None:
        await create(client, "core")
        answer = await client.post(URL, json={"name": "core"})
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)
        assert "'core'" in answer.json()["detail"]

    async def test_of_two_at_once_one_wins(self, client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(client.post(URL, json={"name": "core"}) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]

    async def test_is_audited(self, client: httpx.AsyncClient, database: Database) -> None:
        await create(client, "core", color="#ffffff")
        assert await audited(database) == [
            ("tag:create", "core", {"after": {"name": "core", "color": "#ffffff", "description": None}})
        ]


REFUSED_BODIES: list[tuple[dict[str, Any], str]] = [
    ({}, "/body/name"),
    ({"name": None}, "/body/name"),
    ({"name": "  "}, "/body/name"),
    ({"name": "a" * 101}, "/body/name"),
    ({"name": "a|b"}, "/body/name"),
    ({"name": "a\x00b"}, "/body/name"),
    ({"name": ["a"]}, "/body/name"),
    ({"name": "a", "color": "red"}, "/body/color"),
    ({"name": "a", "color": "#12345g"}, "/body/color"),
    ({"name": "a", "color": "#123456\n#123456"}, "/body/color"),
    ({"name": "a", "description": "d" * 501}, "/body/description"),
    ({"name": "a", "description": "\x00"}, "/body/description"),
    ({"name": "a", "space_id": 0}, "/body/space_id"),
    ({"name": "a", "space_id": 2**63}, "/body/space_id"),
    ({"name": "a", "space_id": True}, "/body/space_id"),
    ({"name": "a", "colour": "#123456"}, "/body/colour"),
]
REFUSED_CONTENTS = [
    rb'{"name": "\ud800"}',
    rb'{"name": "a", "color": "\ud800"}',
    rb'{"name": "a", "description": "\ud800"}',
    rb'{"name": "a", "\ud800": 1}',
    b'{"name": ',
    b"[]",
    b'"a"',
    b"null",
    b"",
]


class TestBadInput:
    async def test_is_a_problem_that_points_at_it(self, client: httpx.AsyncClient) -> None:
        for body, pointer in REFUSED_BODIES:
            answer = await client.post(URL, json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, 25000), body
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    async def test_that_is_no_text_or_no_object(self, client: httpx.AsyncClient) -> None:
        for content in REFUSED_CONTENTS:
            answer = await client.post(URL, content=content, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.json()["code"]) == (422, 25000), content

    async def test_that_cannot_be_read_at_all(self, client: httpx.AsyncClient) -> None:
        for content in (b'{"name": "a\xff"}', b"[" * 100_000, b"1" * 5_000):
            answer = await client.post(URL, content=content, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.json()["code"]) == (400, 25000), content[:20]

    async def test_own_rules_tell_their_code(self, client: httpx.AsyncClient) -> None:
        error = (await client.post(URL, json={"name": "a|b"})).json()["errors"][0]
        assert (error["code"], error["value"]) == ("invalid_format", "a|b")
        assert error["message"] == "a tag must not hold '|' or ';': 'a|b'"

    async def test_long_names_of_unknown_fields_are_cut(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json={"name": "a", "b" * 10_000: 1})
        assert answer.json()["errors"][0]["pointer"] == "/body/" + "b" * 200 + "…"

    async def test_ids(self, client: httpx.AsyncClient) -> None:
        for tag_id in ("0", "-1", str(2**63), "9" * 30, "9" * 5_000, "x", "1.5", "%00"):
            for method in ("GET", "DELETE"):
                assert (await client.request(method, f"{URL}/{tag_id}")).status_code == 422, tag_id

    async def test_queries(self, client: httpx.AsyncClient) -> None:
        for query in ("q=%00", "q=" + "a" * 201, "space_id=0", "limit=0", "limit=201", "sort=color", "sort=%00"):
            assert (await client.get(f"{URL}?{query}")).status_code == 422, query


class TestRead:
    async def test_carries_an_etag(self, client: httpx.AsyncClient) -> None:
        tag = await create(client, "core")
        answer = await client.get(f"{URL}/{tag['id']}")
        assert (answer.status_code, answer.json(), answer.headers["ETag"]) == (200, tag, '"1"')

    @pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
    async def test_what_does_not_exist(self, client: httpx.AsyncClient, method: str) -> None:
        answer = await client.request(method, f"{URL}/{2**63 - 1}", json={} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, 25013)


class TestChange:
    async def test_sets_what_is_named_and_keeps_the_rest(self, client: httpx.AsyncClient) -> None:
        tag = await create(client, "core", color="#2f80ed")
        answer = await client.patch(f"{URL}/{tag['id']}", json={"description": "pages"})
        body = answer.json()
        assert body == tag | {"description": "pages", "revision": 2, "updated_at": body["updated_at"]}
        assert body["updated_at"] > tag["updated_at"]
        assert answer.headers["ETag"] == '"2"'
        assert (await client.get(f"{URL}/{tag['id']}")).json() == body

    async def test_null_clears(self, client: httpx.AsyncClient) -> None:
        tag = await create(client, "core", color="#2f80ed", description="pages")
        body = (await client.patch(f"{URL}/{tag['id']}", json={"color": None, "description": None})).json()
        assert (body["color"], body["description"]) == (None, None)

    async def test_a_name_cannot_be_cleared(self, client: httpx.AsyncClient) -> None:
        tag = await create(client, "core")
        assert (await client.patch(f"{URL}/{tag['id']}", json={"name": None})).status_code == 422

    @pytest.mark.parametrize("body", [{}, {"name": "core"}, {"name": " core ", "color": "#2F80ED"}])
    async def test_that_changes_nothing_writes_nothing(
        self, client: httpx.AsyncClient, database: Database, body: dict[str, str]
    ) -> None:
        tag = await create(client, "core", color="#2f80ed")
        assert (await client.patch(f"{URL}/{tag['id']}", json=body)).json() == tag
        assert len(await audited(database)) == 1

    async def test_to_a_taken_name(self, client: httpx.AsyncClient) -> None:
        tag = await create(client, "core")
        await create(client, "web")
        answer = await client.patch(f"{URL}/{tag['id']}", json={"name": "web"})
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)
        assert (await client.get(f"{URL}/{tag['id']}")).json() == tag

    async def test_is_audited_with_before_and_after(self, client: httpx.AsyncClient, database: Database) -> None:
        tag = await create(client, "core")
        await client.patch(f"{URL}/{tag['id']}", json={"name": "edge", "color": None})
        assert (await audited(database))[1] == (
            "tag:update",
            "edge",
            {"before": {"name": "core"}, "after": {"name": "edge"}},
        )

    async def test_of_two_at_once_with_the_same_etag_one_wins(self, client: httpx.AsyncClient) -> None:
        tag = await create(client, "core")
        answers = await asyncio.gather(
            *(
                client.patch(f"{URL}/{tag['id']}", json={"description": text}, headers={"If-Match": '"1"'})
                for text in "abcd"
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]


class TestIfMatch:
    async def test_that_matches(self, client: httpx.AsyncClient) -> None:
        for header in ('"1"', "*", '"7", "1"', 'W/"1", "1"', ' "1" '):
            tag = await create(client, "core")
            answer = await client.delete(f"{URL}/{tag['id']}", headers={"If-Match": header})
            assert answer.status_code == 204, header

    async def test_that_does_not(self, client: httpx.AsyncClient) -> None:
        tag = await create(client, "core")
        url = f"{URL}/{tag['id']}"
        for header in ('"2"', 'W/"1"', '"7", "8"', "1", '"1', "", ",", "nonsense", '"a,b"', '*, "1"'):
            headers = {"If-Match": header}
            answers = [
                await client.patch(url, json={"description": "x"}, headers=headers),
                await client.delete(url, headers=headers),
            ]
            assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(412, 25017)] * 2, header
        assert (await client.get(url)).json() == tag


class TestDelete:
    async def test_of_one_that_nobody_carries(self, client: httpx.AsyncClient, database: Database) -> None:
        tag = await create(client, "core")
        answer = await client.delete(f"{URL}/{tag['id']}", headers={"If-Match": '"1"'})
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await client.get(f"{URL}/{tag['id']}")).status_code == 404
        assert (await audited(database))[1] == (
            "tag:delete", "core", {"before": {"name": "core", "color": None, "description": None}},
        )  # fmt: skip

    async def test_of_one_in_use_says_by_how_many(self, client: httpx.AsyncClient, registry: Registry) -> None:
        tag_id, _ = await carried(registry, 2)
        answer = await client.delete(f"{URL}/{tag_id}")
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)
        assert "'core' is carried by 2 instances" in answer.json()["detail"]
        assert (await client.get(f"{URL}/{tag_id}")).status_code == 200

    async def test_that_is_forced_takes_it_off(
        self, client: httpx.AsyncClient, registry: Registry, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "UNLINK_INSTANCES", 2)
        tag_id, instance_ids = await carried(registry, 5)
        other = await registry.tag("kept")
        await registry.insert("instance_tags", instance_id=instance_ids[0], tag_id=other)
        untouched = await registry.instance()
        before = await stamps(database)
        assert (await client.delete(f"{URL}/{tag_id}?force=true")).status_code == 204
        assert (await registry.rows_of(instance_ids))["instance_tags"] == 1
        after = await stamps(database)
        assert after[untouched] == before[untouched]
        assert [after[key][0] for key in instance_ids] == [2] * 5
        assert all(after[key][1] > before[key][1] for key in instance_ids)

    async def test_that_is_forced_is_audited_for_every_instance(
        self, client: httpx.AsyncClient, registry: Registry, database: Database
    ) -> None:
        tag_id, _ = await carried(registry, 2)
        await client.delete(f"{URL}/{tag_id}?force=true")
        entries = await audited(database)
        assert [action for action, _, _ in entries] == ["instance:update", "instance:update", "tag:delete"]
        assert entries[0][2] == {"tags": {"removed": ["core"]}}

    async def test_that_is_stale_takes_nothing_off(self, client: httpx.AsyncClient, registry: Registry) -> None:
        tag_id, instance_ids = await carried(registry)
        answer = await client.delete(f"{URL}/{tag_id}?force=true", headers={"If-Match": '"2"'})
        assert answer.status_code == 412
        assert (await registry.rows_of(instance_ids))["instance_tags"] == 1


class TestPages:
    async def test_go_on_behind_the_last_tag(self, client: httpx.AsyncClient, registry: Registry) -> None:
        for number in range(7):
            await registry.tag(f"tag-{number}")
        for sort in ("name", "-name", "id", "-id", "created_at", "-created_at"):
            names, query = [], f"sort={sort}&limit=3"
            while True:
                page = (await client.get(f"{URL}?{query}")).json()
                names += [tag["name"] for tag in page["items"]]
                assert page.keys() == {"items", "next_cursor"}
                if page["next_cursor"] is None:
                    break
                query = f"sort={sort}&limit=3&cursor={page['next_cursor']}"
            assert names == sorted((f"tag-{number}" for number in range(7)), reverse=sort.startswith("-"))

    async def test_are_sorted_by_name_unless_told_otherwise(self, client: httpx.AsyncClient) -> None:
        for name in ("b", "c", "a"):
            await create(client, name)
        assert [tag["name"] for tag in (await client.get(URL)).json()["items"]] == ["a", "b", "c"]

    async def test_count_only_when_asked(self, client: httpx.AsyncClient) -> None:
        await create(client, "core")
        await create(client, "web")
        page = (await client.get(f"{URL}?include_total=true&limit=1&q=CO")).json()
        assert (page["total"], len(page["items"])) == (1, 1)

    async def test_refuse_a_cursor_that_is_not_ours(self, client: httpx.AsyncClient) -> None:
        forged = [
            ["id", 1, 1],
            ["name", 1, 1],
            ["name", "a", "b"],
            ["name", "a\x00", 1],
            ["name", "a", 2**63],
            ["name"],
            {},
        ]
        for cursor in ("x", "\x00", "é", *(cursor_of(content) for content in forged)):
            answer = await client.get(URL, params={"cursor": cursor})
            assert (answer.status_code, answer.json()["code"]) == (400, 25000), cursor

    async def test_refuse_a_cursor_with_no_moment_in_it(self, client: httpx.AsyncClient) -> None:
        for moment in ("2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "soon", 1):
            cursor = cursor_of(["created_at", moment, 1])
            assert (await client.get(URL, params={"cursor": cursor, "sort": "created_at"})).status_code == 400, moment

    async def test_refuse_the_cursor_of_another_sort(self, client: httpx.AsyncClient) -> None:
        for name in ("a", "b"):
            await create(client, name)
        cursor = (await client.get(f"{URL}?limit=1")).json()["next_cursor"]
        assert (await client.get(f"{URL}?sort=-name&cursor={cursor}")).status_code == 400


class TestFilters:
    async def test_q_is_a_substring_in_any_case(self, client: httpx.AsyncClient) -> None:
        everything = ["50%", "Core", "a_b", "score", "x/y"]
        for name in everything:
            await create(client, name)
        expected = {
            "CO": ["Core", "score"],
            "%": ["50%"],
            "_": ["a_b"],
            "/": ["x/y"],
            "": everything,
            "none": [],
        }
        for q, names in expected.items():
            page = (await client.get(URL, params={"q": q, "sort": "id"})).json()
            assert [tag["name"] for tag in page["items"]] == names, q

    async def test_space(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        await create(client, "core")
        await create(client, "web", space_id=space_id)
        page = (await client.get(f"{URL}?space_id={space_id}")).json()
        assert [tag["name"] for tag in page["items"]] == ["web"]
        assert len((await client.get(URL)).json()["items"]) == 2

    async def test_space_that_does_not_exist(self, client: httpx.AsyncClient) -> None:
        assert (await client.get(f"{URL}?space_id=99")).json()["code"] == 25015


class TestDocuments:
    async def test_every_problem_is_documented_as_one(self, client: httpx.AsyncClient) -> None:
        document = (await client.get("/openapi.json")).json()
        responses = document["paths"]["/api/v1/tags/{tag_id}"]["patch"]["responses"]
        assert responses.keys() == {"200", "401", "403", "404", "409", "412", "422", "429", "503", "default"}
        for status, response in responses.items():
            media_type = "application/json" if status == "200" else "application/problem+json"
            assert list(response["content"]) == [media_type]
        assert "HTTPValidationError" not in document["components"]["schemas"]
        assert "Problem" in document["components"]["schemas"]

    async def test_the_examples_can_be_sent(self, client: httpx.AsyncClient) -> None:
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
        answer = await client.post(URL, json=schemas["TagCreation"]["example"])
        assert answer.status_code == 201
        answer = await client.patch(answer.headers["Location"], json=schemas["TagChange"]["example"])
        assert answer.status_code == 200
