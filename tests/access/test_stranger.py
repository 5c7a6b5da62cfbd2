"""A stranger walks through every call with the ids of a space that they may not reach: nothing is seen or changed.

Two spaces have one of everything. What is in the first bears a mark, which no answer to the stranger, who administers
the second, may hold. The calls come from the OpenAPI document: one with a parameter that the walk cannot fill fails.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from app.database import Database
from tests.catalogue import listed_tables
from tests.conftest import client_of
from tests.factories import Registry
from tests.instances.importing import csv_of
from tests.operations.rows import item_of, operation_of
from tests.signing_in import key_of, signed_in_as
from tests.test_openapi import Document, example_of, operations, resolved

MARK = "zq7mark"
# A word that is in no other row: for filters that look for text.
OWN_MARK = "yx3own"
# What the stranger would do to oneself, or is not a stranger's to do: tried elsewhere.
NOT_WALKED = {
    ("post", "/api/v1/auth/login"): "it asks nobody who they are",
    ("post", "/api/v1/auth/refresh"): "it asks nobody who they are",
    ("post", "/api/v1/auth/logout"): "it would end the walk",
    ("post", "/api/v1/auth/password"): "it concerns oneself, and would end the walk",
}
# Parameters that name nothing of a space: roles are everybody's.
COMMON = {"role_id"}
# The first space's administrator has none of their own there.
SOMEBODY_ELSES = {"api_key_id", "notification_id"}


@dataclass(frozen=True)
class Belongings:
    """The ids of one of everything in a space, by the names that calls have for them."""

    space_id: int
    ids: Mapping[str, int]
    administrator: int


async def furnished(app: FastAPI, registry: Registry, mark: str) -> Belongings:
    space_id = await registry.space(f"{mark}-space")
    credential = await registry.credential(f"{mark}-credential", space_id=space_id, description=mark)
    host = f"{mark}.example"
    instance = await registry.instance(
        name=f"{mark}-instance", space_id=space_id, credential_id=credential, host=host, endpoint_key=f"mysql:{host}:1"
    )
    await registry.instance(name=f"{mark}-deleted", space_id=space_id, deleted_at=datetime.now(UTC))
    await registry.dependents(instance)
    tag = await registry.tag(f"{mark}-tag", space_id=space_id)
    await registry.insert("instance_tags", instance_id=instance, tag_id=tag)
    await registry.insert("instance_accounts", instance_id=instance, username=f"{mark}-account")
    rule = {"name_matches": f"{mark}*"}
    named = {"space_id": space_id, "name": f"{mark}-class"}
    classification = await registry.insert("account_classifications", **named, rule=rule)
    version = {"classification_id": classification, "rule_version": 1, "rule": rule}
    await registry.insert("account_classification_versions", space_id=space_id, **version)
    timing = {"cron": "0 3 * * *", "timezone": "UTC", "kinds": ["accounts"], "filter": {"q": mark}}
    schedule = await registry.insert("schedules", space_id=space_id, name=f"{mark}-schedule", **timing)
    sync = await registry.insert(
        "sync_sessions", space_id=space_id, kinds=["accounts"], trigger="manual", state="succeeded"
    )
    synced = {"session_id": sync, "instance_id": instance, "kind": "accounts", "state": "failed"}
    await registry.insert("sync_instance_records", **synced, error=f"{mark}-failure")
    member = await registry.user(f"{mark}-member", role="operator", space_id=space_id, display_name=mark)
    administrator = await registry.user(f"{mark}-admin", role="admin", space_id=space_id)
    await key_of(app, member)
    operation = await operation_of(registry, member, state="failed", space_id=space_id, counts={mark: 1})
    await item_of(registry, operation, 1, "failed", instance_id=instance, name=f"{mark}-item")
    entry = {"action": "instance:create", "resource_type": "instance", "outcome": "succeeded"}
    named = {"resource_id": instance, "resource_name": f"{mark}-instance", "space_id": space_id}
    await registry.insert("audit_events", **entry, **named, actor_name=f"{mark}-member", changes={"after": mark})
    ids = {
        "space_id": space_id,
        "instance_id": instance,
        "credential_id": credential,
        "tag_id": tag,
        "user_id": member,
        "role_id": await registry.role_id("operator"),
        "api_key_id": await registry.insert(
            "api_keys", user_id=member, name=f"{mark}-key", prefix=mark, key_hash=mark * 3, scopes=[],
        ),
        "notification_id": await registry.insert("notifications", user_id=member, kind="note", title=mark),
        "operation_id": operation,
        "classification_id": classification,
        "schedule_id": schedule,
        "sync_id": sync,
        "resource_id": instance,
    }  # fmt: skip
    return Belongings(space_id, ids, administrator)


@pytest.fixture
async def foreign(app: FastAPI, registry: Registry) -> Belongings:
    return await furnished(app, registry, MARK)


@pytest.fixture
async def own(app: FastAPI, registry: Registry, foreign: Belongings) -> Belongings:
    return await furnished(app, registry, OWN_MARK)


@pytest.fixture
async def document(client: httpx.AsyncClient) -> Document:
    return dict((await client.get("/openapi.json")).json())


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    is_named: bool
    """Whether its path or its body names something of the space."""
    arguments: Mapping[str, Any]

    async def sent_by(self, client: httpx.AsyncClient) -> httpx.Response:
        return await client.request(self.method, self.path, **self.arguments)

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.arguments}"


class Walk:
    """Every call, with whatever can name something of a space naming what is in this one."""

    def __init__(self, document: Document, belongings: Belongings) -> None:
        self._document = document
        self._ids = belongings.ids

    def requests(self) -> Iterator[Request]:
        """What reads comes first, and what deletes last."""
        order = ("get", "post", "patch", "put", "delete")
        for method, path, operation in sorted(
            operations(self._document), key=lambda each: (order.index(each[0]), each[1])
        ):
            if (method, path) not in NOT_WALKED:
                yield from self._of(method, path, operation)

    def _of(self, method: str, path: str, operation: Document) -> Iterator[Request]:
        names = [each["name"] for each in operation.get("parameters", []) if each["in"] == "path"]
        unknown = set(names) - self._ids.keys()
        assert not unknown, f"{method} {path}: tell this walk what {unknown} can be"
        filled = path.format(**{name: self._ids[name] for name in names})
        is_named = bool(set(names) - COMMON)
        for arguments, names_one in self._contents(operation):
            yield Request(method, filled, is_named or names_one, arguments)
        for query in self._queries(operation):
            yield Request(method, filled, is_named, {"params": query})

    def _queries(self, operation: Document) -> Iterator[dict[str, Any]]:
        """One for each filter that can name something, and each that changes what is done."""
        for each in operation.get("parameters", []):
            if each["in"] != "query":
                continue
            name = each["name"]
            assert not name.endswith("_id") or name in self._ids or name in ("batch_id", "request_id"), name
            if name in self._ids:
                yield {name: self._ids[name]}
            elif name in ("q", "actor"):
                yield {name: MARK}
            elif name == "tag":
                yield {name: f"{MARK}-tag"}
            elif name == "mode":
                yield {name: "hard", "force": True}
            elif name in ("force", "dry_run", "include_total"):
                yield {name: True}
            elif name == "columns":
                yield {name: "all"}
            elif name == "status":
                yield {name: "deleted"}

    def _contents(self, operation: Document) -> Iterator[tuple[dict[str, Any], bool]]:
        content = operation.get("requestBody", {}).get("content", {})
        if "multipart/form-data" in content:
            file = {"files": {"file": csv_of(f"{OWN_MARK}-new,pg,{OWN_MARK}-new")}}
            yield file | {"data": {"space_id": self._ids["space_id"]}}, True
            yield file | {"data": {"dry_run": True}}, False
            return
        if "application/json" not in content:
            yield {}, False
            return
        schema = content["application/json"]["schema"]
        example = example_of(self._document, schema)
        named = list(self._naming(example, schema))
        for body in named:
            yield {"json": body}, True
        if not named:
            yield {"json": example}, False

    def _naming(self, example: Any, schema: Document) -> Iterator[Any]:
        """The example body, with one of its fields naming something of the space."""
        properties = resolved(self._document, schema).get("properties", {})
        for name in properties:
            if name == "instance_ids":
                yield example | {name: [self._ids["instance_id"]]}
                if "mode" in properties:
                    yield example | {name: [self._ids["instance_id"]], "mode": "hard"}
            elif name in self._ids and name not in COMMON:
                yield example | {name: self._ids[name]}
            else:
                assert not name.endswith(("_id", "_ids")) or name in COMMON, f"tell this walk what {name} can be"


async def everything_of(database: Database, belongings: Belongings) -> dict[str, list[str]]:
    """By table, as text: each row that is of the space, or of an instance in it, or bears the mark."""
    found: dict[str, list[str]] = {}
    async with database.read_engine.connect() as connection:
        tables = await listed_tables(connection)
        instances = tables["instances"].c
        ids = set(await connection.scalars(select(instances.id).where(instances.space_id == belongings.space_id)))
        for name, table in tables.items():
            for row in (await connection.execute(select(table))).mappings():
                is_of_space = row.get("space_id") == belongings.space_id or row.get("instance_id") in ids
                if is_of_space or MARK in str(dict(row)):
                    found.setdefault(name, []).append(str(dict(row)))
    return {name: sorted(rows) for name, rows in found.items()}


class TestStranger:
    async def test_sees_and_changes_nothing(
        self,
        app: FastAPI,
        document: Document,
        database: Database,
        foreign: Belongings,
        own: Belongings,
    ) -> None:
        before = await everything_of(database, foreign)
        assert len(before) > 20
        async with client_of(app, await signed_in_as(app, own.administrator)) as stranger:
            for request in Walk(document, foreign).requests():
                answer = await request.sent_by(stranger)
                assert MARK not in answer.text, request
                assert MARK not in str(answer.headers), request
                self._require_refusal(request, answer)
        after = await everything_of(database, foreign)
        # A stranger's own operation may say that what was named is missing.
        after["operation_items"] = [each for each in after["operation_items"] if "'status': 'missing'" not in each]
        # What is attempted may be noted; what was noted before stays.
        assert set(before.pop("audit_events")) <= set(after.pop("audit_events"))
        assert after == before

    def _require_refusal(self, request: Request, answer: httpx.Response) -> None:
        """A batch answers 200 and calls the ids missing; a body may be refused for naming what there is not."""
        assert answer.status_code < 500, (request, answer.text)
        assert answer.status_code != 401, request
        if not request.is_named:
            return
        if answer.status_code == 202:
            # Its operation finds nothing of what was named (tests/syncs).
            assert "instance_ids" in request.arguments["json"], (request, answer.text)
            return
        if "instance_ids" in request.arguments.get("json", {}):
            assert answer.status_code == 200, (request, answer.text)
            body = answer.json()
            missing = body.get("missing") or [
                each["instance_id"] for each in body["items"] if each["status"] == "missing"
            ]
            assert missing == request.arguments["json"]["instance_ids"], request
            return
        refused = (403, 404, 422) if "json" in request.arguments else (403, 404)
        assert answer.status_code in refused, (request, answer.text)
        if answer.status_code == 422:
            assert answer.json()["errors"][0]["code"] == "credential_not_found", (request, answer.text)

    async def test_would_see_and_change_it_as_an_administrator(
        self, client: httpx.AsyncClient, document: Document, database: Database, foreign: Belongings, own: Belongings
    ) -> None:
        """The walk above is worth something: its calls are good ones."""
        seen, before = "", await everything_of(database, foreign)
        for request in Walk(document, foreign).requests():
            answer = await request.sent_by(client)
            seen += answer.text
            if request.is_named and not any(f"/{each}" in request.path for each in ("api-keys", "notifications")):
                assert answer.status_code not in (401, 403), (request, answer.text)
        things = ("space", "instance", "deleted", "tag", "credential", "member", "key", "item")
        for name in (*things, "class", "schedule", "failure"):
            assert f"{MARK}-{name}" in seen
        after = await everything_of(database, foreign)
        assert len([name for name in before if before[name] != after.get(name)]) > 15


class TestRawPaths:
    """What goes to the driver without a session's statements goes by ids and names that were looked up with one."""

    @pytest.fixture
    async def stranger(self, app: FastAPI, own: Belongings) -> Any:
        async with client_of(app, await signed_in_as(app, own.administrator)) as client:
            yield client

    async def test_the_list(self, stranger: httpx.AsyncClient, foreign: Belongings) -> None:
        """fetch_rows, for every shape of the statement."""
        for query in ({}, {"sort": "-name"}, {"q": "instance"}, {"status": "active"}, {"tag": f"{OWN_MARK}-tag"}):
            answer = await stranger.get("/api/v1/instances", params={"include_total": True, **query})
            names = [item["name"] for item in answer.json()["items"]]
            assert (names, answer.json()["total"]) == ([f"{OWN_MARK}-instance"], 1), query
        assert (await stranger.get("/api/v1/instances", params={"tag": f"{MARK}-tag"})).json()["items"] == []

    async def test_the_next_page(self, stranger: httpx.AsyncClient, registry: Registry, own: Belongings) -> None:
        for number in range(3):
            await registry.instance(space_id=own.space_id)
            await registry.instance(name=f"{MARK}-{number}")
        seen, cursor = [], None
        while True:
            query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await stranger.get("/api/v1/instances", params=query)).json()
            seen += page["items"]
            if not (cursor := page["next_cursor"]):
                break
        assert {item["space_id"] for item in seen} == {own.space_id}
        assert len(seen) == 4

    async def test_statistics_and_export(self, stranger: httpx.AsyncClient) -> None:
        counts = (await stranger.get("/api/v1/instances/statistics")).json()
        assert (counts["total"], counts["status"]["deleted"]) == (1, 1)
        assert counts["tag"][f"{OWN_MARK}-tag"] == 1
        assert not [name for name in counts["tag"] if MARK in name]
        exported = (await stranger.get("/api/v1/instances/export", params={"columns": "all"})).text
        assert exported.count("\n") == 2

    async def test_an_import_knows_no_foreign_names(
        self, stranger: httpx.AsyncClient, database: Database, foreign: Belongings, own: Belongings
    ) -> None:
        """A name and an endpoint that are taken elsewhere are free here, a credential there is none here."""
        before = await everything_of(database, foreign)
        content = csv_of(
            f"{MARK}-instance,mysql,{MARK}.example,",
            f"other,mysql,other,{MARK}-credential",
            columns="name,db_type,host,credential",
        )
        answer = await stranger.post(
            "/api/v1/instances/batch-create", files={"file": content}, data={"on_existing": "update"}
        )
        items = answer.json()["items"]
        assert [item["status"] for item in items] == ["created", "invalid"], answer.text
        assert items[1]["errors"][0]["code"] == "credential_not_found"
        made = (await stranger.get(f"/api/v1/instances/{items[0]['instance_id']}")).json()
        assert made["space_id"] == own.space_id
        after = await everything_of(database, foreign)
        assert all(set(rows) <= set(after[name]) for name, rows in before.items())

    @pytest.mark.parametrize("mode", ["soft", "hard"])
    async def test_the_deletion_program(
        self, stranger: httpx.AsyncClient, database: Database, foreign: Belongings, own: Belongings, mode: str
    ) -> None:
        before = await everything_of(database, foreign)
        ids = [foreign.ids["instance_id"], own.ids["instance_id"]]
        body = {"instance_ids": ids, "mode": mode, "force": True}
        precheck = await stranger.post(
            "/api/v1/instances/batch-delete/precheck", json={"instance_ids": ids, "mode": mode}
        )
        assert (precheck.json()["missing"], len(precheck.json()["items"])) == (ids[:1], 1)
        body["plan_token"] = precheck.json()["plan_token"]
        report = (await stranger.post("/api/v1/instances/batch-delete", json=body)).json()
        assert [item["status"] for item in report["items"]] == ["missing", "deleted"]
        assert await everything_of(database, foreign) == before

    async def test_tagging_many(
        self, stranger: httpx.AsyncClient, database: Database, foreign: Belongings, own: Belongings
    ) -> None:
        before = await everything_of(database, foreign)
        ids = [foreign.ids["instance_id"], own.ids["instance_id"]]
        body = {"instance_ids": ids, "add": ["new"], "remove": [f"{MARK}-tag", f"{OWN_MARK}-tag"]}
        report = (await stranger.post("/api/v1/instances/batch-tags", json=body)).json()
        assert (report["updated"], report["missing"]) == (1, ids[:1])
        assert await everything_of(database, foreign) == before


class TestPurge:
    """Deletion for good asks for more than deletion."""

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/instances/{id}?mode=hard", None),
            ("/instances/batch-delete", {"mode": "hard"}),
            ("/instances/batch-delete", {"mode": "hard", "dry_run": True}),
            ("/instances/batch-delete/precheck", {"mode": "hard"}),
        ],
    )
    async def test_who_may_delete_may_not_purge(
        self, app: FastAPI, registry: Registry, path: str, body: dict[str, Any] | None
    ) -> None:
        instance = await registry.instance()
        operator = await registry.user(role="operator")
        async with client_of(app, await signed_in_as(app, operator)) as client:

            async def call(with_body: dict[str, Any] | None, url: str) -> httpx.Response:
                if with_body is None:
                    return await client.delete(f"/api/v1{url.format(id=instance)}")
                return await client.post(f"/api/v1{url}", json=with_body | {"instance_ids": [instance]})

            answer = await call(body, path)
            assert (answer.status_code, answer.json()["code"]) == (403, 25020)
            assert "instance:purge" in answer.json()["detail"]
            softly = await call(body and body | {"mode": "soft"}, path.replace("hard", "soft"))
            assert softly.status_code == 200

    async def test_only_where_it_is_held(self, app: FastAPI, registry: Registry) -> None:
        """In the other spaces there is nothing to purge."""
        purging, deleting = await registry.space(), await registry.space()
        caller = await registry.user(role="admin", space_id=purging)
        await registry.grant(caller, await registry.role_id("operator"), deleting)
        ids = [await registry.instance(space_id=purging), await registry.instance(space_id=deleting)]
        async with client_of(app, await signed_in_as(app, caller)) as client:
            body = {"instance_ids": ids, "mode": "hard"}
            report = (await client.post("/api/v1/instances/batch-delete", json=body)).json()
            assert [item["status"] for item in report["items"]] == ["deleted", "missing"]
            assert (await client.delete(f"/api/v1/instances/{ids[1]}?mode=hard")).status_code == 404
            assert (await client.delete(f"/api/v1/instances/{ids[1]}")).status_code == 200
