"""Registering, reading and changing one instance."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import select

from app.credentials.records import CredentialRecord
from app.credentials.service import CredentialService
from app.database import Database
from app.models.audit import AuditEvent
from app.models.tag import Tag
from tests.factories import Registry

URL = "/api/v1/instances"
HUGE = [0, -1, 2**63, 2**64]


def body(name: str = "pg-01", **values: Any) -> dict[str, Any]:
    return {"name": name, "db_type": "postgresql", "host": f"{name}.example"} | values


async def created(client: httpx.AsyncClient, name: str = "pg-01", **values: Any) -> dict[str, Any]:
    answer = await client.post(URL, json=body(name, **values))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def changed(client: httpx.AsyncClient, instance_id: int, **values: Any) -> dict[str, Any]:
    answer = await client.patch(f"{URL}/{instance_id}", json=values)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def refusals(answer: httpx.Response) -> list[tuple[str, str]]:
    """Pointers and codes of a 422."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    return [(error["pointer"], error["code"]) for error in answer.json()["errors"]]


async def audit(database: Database, action: str) -> list[dict[str, Any] | None]:
    async with database.readers() as session:
        statement = select(AuditEvent.changes).where(AuditEvent.action == action).order_by(AuditEvent.id)
        return list(await session.scalars(statement))


class TestCreate:
    async def test_answers_with_the_instance_and_where_it_is(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json=body())
        assert answer.status_code == 201
        instance = answer.json()
        assert answer.headers["Location"] == f"/api/v1/instances/{instance['id']}"
        assert answer.headers["ETag"] == '"1"'
        assert (await client.get(answer.headers["Location"])).json() == instance

    async def test_sets_the_defaults(self, client: httpx.AsyncClient, registry: Registry, admin: int) -> None:
        instance = await created(client)
        assert {key: instance[key] for key in instance if key not in ("id", "created_at", "updated_at")} == {
            "space_id": await registry.default_space(),
            "name": "pg-01",
            "db_type": "postgresql",
            "host": "pg-01.example",
            "port": 5432,
            "database_name": None,
            "description": None,
            "environment": "production",
            "credential_id": None,
            "tags": [],
            "sync_policy": "off",
            "is_active": True,
            "deletion_protection": False,
            "tls_mode": None,
            "tls_ca_file": None,
            "version": None,
            "last_connected_at": None,
            "deleted_at": None,
            "revision": 1,
            "created_by": admin,
            "updated_by": admin,
        }
        assert instance["created_at"].endswith("Z")

    async def test_null_and_empty_stand_for_the_defaults_too(self, client: httpx.AsyncClient) -> None:
        optional = ("port", "database_name", "description", "environment", "tags", "sync_policy", "is_active")
        plain = await created(client, "a")
        further = ("credential_id", "deletion_protection", "tls_mode", "tls_ca_file")
        nulls = await created(client, "b", **dict.fromkeys((*optional, *further)))
        empty = await created(client, "c", port="", database_name=" ", description="", environment="", sync_policy="")
        assert [{key: each[key] for key in optional} for each in (nulls, empty)] == [
            {key: plain[key] for key in optional}
        ] * 2

    async def test_normalises_as_the_import_does(self, client: httpx.AsyncClient) -> None:
        instance = await created(
            client,
            name=" pg-01 ",
            db_type="MSSQL",
            host="DB.Example.",
            port="1444",
            description="  two\nlines ",
            environment="Staging",
            tags=["b", " a ", "b"],
            sync_policy="DAILY",
            is_active="no",
            deletion_protection="是",
        )
        assert {key: instance[key] for key in ("name", "db_type", "host", "port", "description", "tags")} == {
            "name": "pg-01",
            "db_type": "sqlserver",
            "host": "db.example",
            "port": 1444,
            "description": "two\nlines",
            "tags": ["a", "b"],
        }
        assert (instance["environment"], instance["sync_policy"]) == ("staging", "daily")
        assert (instance["is_active"], instance["deletion_protection"]) == (False, True)

    async def test_makes_the_tags_that_are_missing(self, client: httpx.AsyncClient, database: Database) -> None:
        await created(client, "a", tags=["red"])
        await created(client, "b", tags=["red", "blue"])
        async with database.readers() as session:
            assert list(await session.scalars(select(Tag.name).order_by(Tag.id))) == ["red", "blue"]

    async def test_goes_to_the_space_that_is_named(self, client: httpx.AsyncClient, registry: Registry) -> None:
        space_id = await registry.space()
        await created(client)
        assert (await created(client, space_id=space_id))["space_id"] == space_id

    async def test_a_space_that_does_not_exist_is_not_found(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json=body(space_id=2**63 - 1))
        assert (answer.status_code, answer.json()["code"]) == (404, 25015)

    async def test_is_recorded(self, client: httpx.AsyncClient, database: Database) -> None:
        await created(client, tags=["red"], port=6000)
        [changes] = await audit(database, "instance:create")
        assert changes is not None
        assert {key: changes["after"][key] for key in ("name", "port", "tags", "environment")} == {
            "name": "pg-01",
            "port": 6000,
            "tags": ["red"],
            "environment": "production",
        }

    @pytest.mark.parametrize("field", ["name", "db_type", "host"])
    async def test_what_is_required_is_required(self, client: httpx.AsyncClient, field: str) -> None:
        whole = body()
        del whole[field]
        assert refusals(await client.post(URL, json=whole)) == [(f"/body/{field}", "missing")]
        assert refusals(await client.post(URL, json=body() | {field: " "})) == [(f"/body/{field}", "required")]
        assert refusals(await client.post(URL, json=body() | {field: None}))[0][0] == f"/body/{field}"

    async def test_every_refusal_is_told_at_once(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(URL, json=body(name="-", db_type="db2", host="a b", port=0, tags=["a|b"]))
        assert refusals(answer) == [
            ("/body/name", "invalid_format"),
            ("/body/db_type", "unknown_value"),
            ("/body/host", "invalid_format"),
            ("/body/port", "out_of_range"),
            ("/body/tags/0", "invalid_format"),
        ]
        assert "db2" in answer.json()["errors"][1]["message"]

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [
            ("name", "x" * 101, "too_long"),
            ("name", "a\x00b", "invalid_format"),
            ("name", 5, "string_type"),
            ("host", "x" * 256, "too_long"),
            ("host", "fe80::1%eth0", "invalid_format"),
            ("port", 65536, "out_of_range"),
            ("port", 10**30, "out_of_range"),
            ("port", 1.5, "int_type"),
            ("port", True, "int_type"),
            ("port", [1], "int_type"),
            ("database_name", "x" * 65, "too_long"),
            ("database_name", "a\nb", "invalid_format"),
            ("description", "x" * 501, "too_long"),
            ("description", "a\x00b", "invalid_format"),
            ("environment", "prod", "unknown_value"),
            ("environment", 1, "enum"),
            ("credential_id", "secret", "int_parsing"),
            ("credential_id", 0, "greater_than_equal"),
            ("credential_id", 2**64, "less_than_equal"),
            ("tags", "red", "tuple_type"),
            ("tags", [str(number) for number in range(51)], "out_of_range"),
            ("sync_policy", "yearly", "unknown_value"),
            ("is_active", "maybe", "unknown_value"),
            ("is_active", 2, "bool_parsing"),
            ("deletion_protection", {}, "bool_type"),
            ("space_id", 2**64, "less_than_equal"),
        ],
    )
    async def test_what_a_rule_refuses_names_field_and_rule(
        self, client: httpx.AsyncClient, field: str, value: object, code: str
    ) -> None:
        assert refusals(await client.post(URL, json=body() | {field: value})) == [(f"/body/{field}", code)]

    @pytest.mark.parametrize(
        "field", ["name", "host", "db_type", "database_name", "description", "environment", "tags"]
    )
    async def test_half_a_character_is_refused(self, client: httpx.AsyncClient, field: str) -> None:
        text = '["a\\ud800"]' if field == "tags" else '"a\\ud800"'
        content = orjson.dumps(body() | {field: "@"}).replace(b'"@"', text.encode())
        answer = await client.post(URL, content=content, headers={"Content-Type": "application/json"})
        assert refusals(answer)[0][0].startswith(f"/body/{field}")

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"name":' + b"9" * 5000 + b"}"]
    )
    async def test_what_is_no_such_object_is_refused(self, client: httpx.AsyncClient, content: bytes) -> None:
        answer = await client.post(URL, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422)
        assert answer.json()["code"] == 25000

    @pytest.mark.parametrize(
        "field",
        ["id", "revision", "version", "created_by", "created_at", "deleted_at", "endpoint_key", "last_connected_at"],
    )
    async def test_what_the_server_sets_cannot_be_sent(self, client: httpx.AsyncClient, field: str) -> None:
        assert refusals(await client.post(URL, json=body() | {field: 1})) == [(f"/body/{field}", "extra_forbidden")]


class TestCredential:
    async def test_one_of_the_same_space_is_taken(self, client: httpx.AsyncClient, registry: Registry) -> None:
        credential_id = await registry.credential()
        instance = await created(client, credential_id=credential_id)
        assert instance["credential_id"] == credential_id
        assert (await changed(client, instance["id"], credential_id=None))["credential_id"] is None
        assert (await changed(client, instance["id"], credential_id=credential_id))["credential_id"] == credential_id

    async def test_one_of_another_space_or_none_is_refused_alike(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        instance = await created(client)
        elsewhere = await registry.credential(space_id=await registry.space())
        for credential_id in (elsewhere, elsewhere + 1, 2**63 - 1):
            expected = [("/body/credential_id", "credential_not_found")]
            assert refusals(await client.post(URL, json=body("b", credential_id=credential_id))) == expected
            answer = await client.patch(f"{URL}/{instance['id']}", json={"credential_id": credential_id})
            assert refusals(answer) == expected

    async def test_one_that_is_deleted_meanwhile_is_a_conflict(
        self, client: httpx.AsyncClient, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        instance = await created(client)
        present = await registry.credential()
        reading = CredentialService.get

        async def outdated(self: CredentialService, _: int) -> CredentialRecord:
            return await reading(self, present)

        monkeypatch.setattr(CredentialService, "get", outdated)
        answers = [
            await client.post(URL, json=body("b", credential_id=present + 1)),
            await client.patch(f"{URL}/{instance['id']}", json={"credential_id": present + 1}),
        ]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(409, 25016)] * 2
        assert len((await client.get(URL)).json()["items"]) == 1


class TestConflict:
    async def test_a_taken_name_names_who_has_it(self, client: httpx.AsyncClient) -> None:
        first = await created(client)
        answer = await client.post(URL, json=body(host="other.example"))
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)
        [error] = answer.json()["errors"]
        assert (error["pointer"], error["code"]) == ("/body/name", "name_exists")
        assert str(first["id"]) in error["message"]
        assert "pg-01" in answer.json()["detail"]

    async def test_a_taken_endpoint_names_who_has_it(self, client: httpx.AsyncClient) -> None:
        first = await created(client)
        answer = await client.post(URL, json=body("other", host="PG-01.example.", db_type="pg"))
        assert answer.status_code == 409
        [error] = answer.json()["errors"]
        assert (error["pointer"], error["code"]) == ("/body/host", "endpoint_exists")
        assert str(first["id"]) in error["message"]

    async def test_both_are_told_at_once(self, client: httpx.AsyncClient) -> None:
        await created(client, "a")
        await created(client, "b")
        answer = await client.post(URL, json=body("a", host="b.example"))
        assert {error["code"] for error in answer.json()["errors"]} == {"name_exists", "endpoint_exists"}

    async def test_for_oracle_the_service_name_is_part_of_the_endpoint(self, client: httpx.AsyncClient) -> None:
        oracle = {"db_type": "oracle", "host": "ora.example"}
        await created(client, "a", **oracle, database_name="one")
        await created(client, "b", **oracle, database_name="two")
        assert (await client.post(URL, json=body("c", **oracle, database_name="one"))).status_code == 409

    async def test_names_are_free_in_other_spaces_and_after_deletion(
        self, client: httpx.AsyncClient, registry: Registry
    ) -> None:
        await registry.instance(
            name="pg-01", deleted_at=datetime.now(UTC), endpoint_key="postgresql:pg-01.example:5432"
        )
        await created(client)
        await created(client, space_id=await registry.space())

    async def test_of_ten_creations_at_once_one_wins(self, client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(
            *(client.post(URL, json=body(host=f"h{number}.example", tags=["x"])) for number in range(10))
        )
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
        for answer in answers:
            if answer.status_code == 409:
                assert [error["code"] for error in answer.json()["errors"]] == ["name_exists"]
        assert len((await client.get(URL)).json()["items"]) == 1

    async def test_of_ten_endpoints_at_once_one_wins(self, client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(client.post(URL, json=body(f"n{n}", host="h.example")) for n in range(10)))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9

    async def test_of_two_renamings_to_one_name_at_once_one_wins(self, client: httpx.AsyncClient) -> None:
        ids = [(await created(client, name))["id"] for name in ("a", "b")]
        answers = await asyncio.gather(*(client.patch(f"{URL}/{each}", json={"name": "c"}) for each in ids))
        assert sorted(answer.status_code for answer in answers) == [200, 409]


class TestRead:
    async def test_a_deleted_one_still_answers(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance(deleted_at=datetime(2026, 1, 1, tzinfo=UTC))
        answer = await client.get(f"{URL}/{instance_id}")
        assert (answer.status_code, answer.json()["deleted_at"]) == (200, "2026-01-01T00:00:00Z")

    async def test_one_that_does_not_exist_is_not_found(self, client: httpx.AsyncClient) -> None:
        for instance_id in (1, 2**63 - 1):
            answer = await client.get(f"{URL}/{instance_id}")
            assert (answer.status_code, answer.json()["code"]) == (404, 25013)

    @pytest.mark.parametrize("instance_id", [*HUGE, "one", "1.5", "%00", "1e3"])
    async def test_an_id_that_none_can_have_is_refused(self, client: httpx.AsyncClient, instance_id: object) -> None:
        assert (await client.get(f"{URL}/{instance_id}")).status_code == 422
        assert (await client.patch(f"{URL}/{instance_id}", json={})).status_code == 422

    async def test_what_the_client_has_is_not_sent_again(self, client: httpx.AsyncClient) -> None:
        instance = await created(client)
        url = f"{URL}/{instance['id']}"
        for known in ('"1"', 'W/"1"', '"x", "1"', "*"):
            answer = await client.get(url, headers={"If-None-Match": known})
            assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", '"1"')
        for other in ('"2"', "1", "nonsense", ""):
            assert (await client.get(url, headers={"If-None-Match": other})).status_code == 200
        await changed(client, instance["id"], description="new")
        answer = await client.get(url, headers={"If-None-Match": '"1"'})
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')


class TestChange:
    async def test_only_what_is_sent_changes(self, client: httpx.AsyncClient) -> None:
        before = await created(client, description="old", tags=["a"], port=6000, environment="staging")
        answer = await client.patch(f"{URL}/{before['id']}", json={"description": "new"})
        assert answer.status_code == 200
        assert answer.headers["ETag"] == '"2"'
        after = answer.json()
        assert after["updated_at"] > before["updated_at"]
        assert after == before | {"description": "new", "revision": 2, "updated_at": after["updated_at"]}
        assert (await client.get(f"{URL}/{before['id']}")).json() == after

    async def test_null_sets_the_default(self, client: httpx.AsyncClient) -> None:
        given = {
            "port": 6000, "database_name": "d", "description": "d", "environment": "testing", "tags": ["a"],
            "sync_policy": "daily", "is_active": False, "deletion_protection": True,
        }  # fmt: skip
        instance = await created(client, **given)
        after = await changed(client, instance["id"], **dict.fromkeys(given))
        assert {key: after[key] for key in given} == {
            "port": 5432, "database_name": None, "description": None, "environment": "production", "tags": [],
            "sync_policy": "off", "is_active": True, "deletion_protection": False,
        }  # fmt: skip

    @pytest.mark.parametrize("field", ["name", "db_type", "host"])
    async def test_what_is_required_has_no_default(self, client: httpx.AsyncClient, field: str) -> None:
        instance = await created(client)
        for nothing in (None, "", " "):
            answer = await client.patch(f"{URL}/{instance['id']}", json={field: nothing})
            assert refusals(answer)[0][0] == f"/body/{field}"

    async def test_another_type_keeps_the_port_unless_told(self, client: httpx.AsyncClient) -> None:
        instance = await created(client)
        after = await changed(client, instance["id"], db_type="mysql")
        assert (after["db_type"], after["port"]) == ("mysql", 5432)
        assert (await changed(client, instance["id"], db_type="redis", port=None))["port"] == 6379

    async def test_the_endpoint_follows(self, client: httpx.AsyncClient) -> None:
        instance = await created(client)
        await changed(client, instance["id"], host="moved.example", port=6000)
        await created(client, "b", host="pg-01.example")
        assert (await client.post(URL, json=body("c", host="moved.example", port=6000))).status_code == 409
        assert (await client.patch(f"{URL}/{instance['id']}", json={"host": "pg-01.example"})).status_code == 200

    async def test_tags_are_replaced(self, client: httpx.AsyncClient) -> None:
        instance = await created(client, tags=["a", "b"])
        after = await changed(client, instance["id"], tags=["b", "new"])
        assert (after["tags"], after["revision"]) == (["b", "new"], 2)
        assert (await changed(client, instance["id"], tags=[]))["tags"] == []

    @pytest.mark.parametrize(
        "same", [{}, {"description": "old"}, {"tags": ["b", "a", "a"]}, {"host": "PG-01.example."}, {"port": "5432"}]
    )
    async def test_where_nothing_differs_nothing_is_written(
        self, client: httpx.AsyncClient, database: Database, same: dict[str, Any]
    ) -> None:
        before = await created(client, description="old", tags=["a", "b"])
        assert await changed(client, before["id"], **same) == before
        assert await audit(database, "instance:update") == []

    @pytest.mark.parametrize(
        "field",
        ["id", "space_id", "created_by", "updated_by", "revision", "version", "deleted_at", "updated_at", "credential"],
    )
    async def test_what_the_server_sets_cannot_be_sent(self, client: httpx.AsyncClient, field: str) -> None:
        instance = await created(client)
        answer = await client.patch(f"{URL}/{instance['id']}", json={field: 1, "description": "new"})
        assert refusals(answer) == [(f"/body/{field}", "extra_forbidden")]
        assert (await client.get(f"{URL}/{instance['id']}")).json() == instance

    async def test_a_taken_name_or_endpoint_is_a_conflict(self, client: httpx.AsyncClient) -> None:
        first, second = await created(client, "a"), await created(client, "b")
        for change, code in (({"name": "a"}, "name_exists"), ({"host": "a.example"}, "endpoint_exists")):
            answer = await client.patch(f"{URL}/{second['id']}", json=change)
            assert (answer.status_code, answer.json()["code"]) == (409, 25016)
            assert answer.json()["errors"][0]["code"] == code
            assert str(first["id"]) in answer.json()["detail"]
        assert (await client.get(f"{URL}/{second['id']}")).json() == second

    async def test_a_deleted_one_is_a_conflict(self, client: httpx.AsyncClient, registry: Registry) -> None:
        instance_id = await registry.instance(deleted_at=datetime.now(UTC))
        answer = await client.patch(f"{URL}/{instance_id}", json={"description": "new"})
        assert (answer.status_code, answer.json()["code"]) == (409, 25016)
        assert "restore" in answer.json()["detail"]

    async def test_one_that_does_not_exist_is_not_found(self, client: httpx.AsyncClient) -> None:
        answer = await client.patch(f"{URL}/{2**63 - 1}", json={"description": "new"})
        assert (answer.status_code, answer.json()["code"]) == (404, 25013)

    async def test_before_and_after_are_recorded(self, client: httpx.AsyncClient, database: Database) -> None:
        instance = await created(client, description="old", tags=["a"])
        await changed(client, instance["id"], description="new", tags=["b"], port=5432, environment="testing")
        assert await audit(database, "instance:update") == [
            {
                "before": {"description": "old", "tags": ["a"], "environment": "production"},
                "after": {"description": "new", "tags": ["b"], "environment": "testing"},
            }
        ]

    async def test_a_failed_change_makes_no_tags(self, client: httpx.AsyncClient, database: Database) -> None:
        await created(client, "a")
        instance = await created(client, "b")
        answer = await client.patch(f"{URL}/{instance['id']}", json={"name": "a", "tags": ["new"]})
        assert answer.status_code == 409
        async with database.readers() as session:
            assert (await session.scalars(select(Tag.name))).all() == []


class TestIfMatch:
    async def test_the_present_revision_lets_pass(self, client: httpx.AsyncClient) -> None:
        instance = await created(client)
        url = f"{URL}/{instance['id']}"
        answer = await client.patch(url, json={"description": "a"}, headers={"If-Match": '"1"'})
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
        for matching in ('"1", "2"', "*"):
            assert (await client.patch(url, json={}, headers={"If-Match": matching})).status_code == 200

    async def test_another_one_does_not(self, client: httpx.AsyncClient) -> None:
        instance = await created(client)
        for stale in ('"2"', 'W/"1"', "1", "nonsense"):
            answer = await client.patch(
                f"{URL}/{instance['id']}", json={"description": "a"}, headers={"If-Match": stale}
            )
            assert (answer.status_code, answer.json()["code"]) == (412, 25017)
        assert (await client.get(f"{URL}/{instance['id']}")).json() == instance

    async def test_of_ten_changes_to_one_revision_one_is_made(self, client: httpx.AsyncClient) -> None:
        instance = await created(client)
        answers = await asyncio.gather(
            *(
                client.patch(
                    f"{URL}/{instance['id']}",
                    json={"description": str(number), "tags": [str(number)]},
                    headers={"If-Match": '"1"'},
                )
                for number in range(10)
            )
        )
        assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9

    async def test_ten_changes_of_different_fields_at_once_are_all_made(self, client: httpx.AsyncClient) -> None:
        instance = await created(client)
        changes: list[dict[str, Any]] = [
            {"description": "a"}, {"port": 6000}, {"tags": ["a", "b"]}, {"environment": "testing"},
            {"is_active": False}, {"sync_policy": "daily"}, {"database_name": "d"}, {"deletion_protection": True},
        ]  # fmt: skip
        await asyncio.gather(*(client.patch(f"{URL}/{instance['id']}", json=change) for change in changes))
        after = (await client.get(f"{URL}/{instance['id']}")).json()
        assert after["revision"] == 1 + len(changes)
        for change in changes:
            assert after | change == after
