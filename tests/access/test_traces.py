"""Who changed a row last, and when: whichever way the change takes to the database."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from fastapi import FastAPI
from sqlalchemy import Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.caller import Call, Caller, calling
from app.credentials import repository as credential_repository
from app.database import Database
from app.models import Base
from app.models.instance import Instance
from app.models.tag import Tag
from app.tags.service import TagService
from tests.conftest import client_of
from tests.factories import Registry
from tests.instances.importing import csv_of, import_csv
from tests.signing_in import key_of, signed_in_as

API = "/api/v1"
LONG_AGO = datetime.now(UTC) - timedelta(days=30)
ANN, BOB = 501, 502
traced_tables = [table for table in Base.metadata.sorted_tables if {"created_by", "updated_by"} <= set(table.c.keys())]


@dataclass(frozen=True)
class Trace:
    created_by: int | None
    updated_by: int | None
    created_at: datetime
    updated_at: datetime

    @property
    def is_touched(self) -> bool:
        return self.updated_at > LONG_AGO + timedelta(days=1)


async def trace(database: Database, table_name: str, key: int) -> Trace:
    table = Base.metadata.tables[table_name]
    columns = (table.c.created_by, table.c.updated_by, table.c.created_at, table.c.updated_at)
    async with database.readers() as session:
        return Trace(*(await session.execute(select(*columns).where(table.c.id == key))).one())


@pytest.fixture
def old(registry: Registry) -> Callable[..., Awaitable[int]]:
    """Makes a row that Ann made and changed long ago."""

    async def make(kind: str, **values: Any) -> int:
        traced = {"created_by": ANN, "updated_by": ANN, "created_at": LONG_AGO, "updated_at": LONG_AGO}
        if kind == "instance":
            return int(await registry.instance(**values, **traced))
        if kind == "credential":
            return int(await registry.credential(**values, **traced))
        space_id = values.pop("space_id", None) or await registry.default_space()
        return int(await registry.insert("tags", space_id=space_id, **values, **traced))

    return make


async def by(database: Database, user_id: int | None, work: Callable[[AsyncSession], Awaitable[Any]]) -> Any:
    """Does the work in a transaction and a call of this user's."""
    with calling(Call(caller=Caller(user_id, "somebody"), spaces=None)):
        async with database.writers.begin() as session:
            return await work(session)


class TestStatements:
    """The three ways of SQLAlchemy; one of them for each table that has traces."""

    @pytest.mark.parametrize("table", traced_tables, ids=lambda table: table.name)
    async def test_core(self, database: Database, registry: Registry, table: Table) -> None:
        values = {
            "instances": {"name": "a", "db_type": "mysql", "host": "a", "port": 1, "endpoint_key": "a"},
            "credentials": {"name": "a", "type": "database"},
            "tags": {"name": "a"},
            "spaces": {"name": "a"},
            "roles": {"name": "a"},
            "users": {"username": "a", "password_hash": "!"},
        }[table.name]
        if "space_id" in table.c:
            values["space_id"] = await registry.default_space()
        statement = insert(table).values(**values).returning(table.c.id)
        key = await by(database, ANN, lambda session: session.scalar(statement))
        made = await trace(database, table.name, key)
        assert (made.created_by, made.updated_by) == (ANN, ANN)
        revised = update(table).where(table.c.id == key).values(revision=2)
        await by(database, BOB, lambda session: session.execute(revised))
        changed = await trace(database, table.name, key)
        assert (changed.created_by, changed.updated_by, changed.created_at) == (ANN, BOB, made.created_at)
        assert changed.updated_at > made.updated_at

    async def test_of_an_entity(self, database: Database, old: Any) -> None:
        key = await old("instance")
        await by(database, BOB, lambda session: session.execute(update(Instance).values(description="x")))
        changed = await trace(database, "instances", key)
        assert (changed.created_by, changed.updated_by, changed.is_touched) == (ANN, BOB, True)

    async def test_unit_of_work(self, database: Database, registry: Registry) -> None:
        space_id = await registry.default_space()

        async def make(session: AsyncSession) -> int:
            tag = Tag(space_id=space_id, name="a")
            session.add(tag)
            await session.flush()
            return tag.id

        async def rename(session: AsyncSession) -> None:
            tag = await session.get_one(Tag, key)
            tag.name = "b"

        key = await by(database, ANN, make)
        made = await trace(database, "tags", key)
        await by(database, BOB, rename)
        changed = await trace(database, "tags", key)
        assert (changed.created_by, changed.updated_by) == (ANN, BOB)
        assert changed.updated_at > made.updated_at

    async def test_of_the_service_itself(self, database: Database, old: Any) -> None:
        """Nobody's; it is not the one's before."""
        key = await old("instance")
        async with database.writers.begin() as session:
            await session.execute(update(Instance).values(description="x"))
        changed = await trace(database, "instances", key)
        assert (changed.created_by, changed.updated_by, changed.is_touched) == (ANN, None, True)


class TestTags:
    async def test_that_are_made_on_the_way(self, database: Database, registry: Registry) -> None:
        """INSERT … SELECT, which is compiled once: each caller's own id and time are stored nevertheless."""
        space_id = await registry.default_space()
        found = {}
        for user, names in ((ANN, ["a", "b"]), (BOB, ["c", "d"]), (None, ["e", "f"])):
            ids = await by(database, user, lambda session, names=names: TagService(session).ensure(space_id, names))
            found[user] = [await trace(database, "tags", ids[name]) for name in names]
        for user, traces in found.items():
            assert [(each.created_by, each.updated_by) for each in traces] == [(user, user)] * 2
        assert found[ANN][0].created_at < found[BOB][0].created_at < found[None][0].created_at
        assert all(each.created_at <= each.updated_at for traces in found.values() for each in traces)

    async def test_taken_off_by_force(
        self, client: httpx.AsyncClient, admin: int, database: Database, old: Any
    ) -> None:
        instance, tag = await old("instance"), await old("tag", name="t")
        await Registry(database).insert("instance_tags", instance_id=instance, tag_id=tag)
        assert (await client.delete(f"{API}/tags/{tag}", params={"force": True})).status_code == 204
        changed = await trace(database, "instances", instance)
        assert (changed.created_by, changed.updated_by, changed.is_touched) == (ANN, admin, True)


Change = Callable[[httpx.AsyncClient, int], Awaitable[httpx.Response]]
CHANGES_OF_AN_INSTANCE: dict[str, Change] = {
    "change": lambda client, key: client.patch(f"{API}/instances/{key}", json={"description": "x"}),
    "change of tags alone": lambda client, key: client.patch(f"{API}/instances/{key}", json={"tags": ["new"]}),
    "soft deletion": lambda client, key: client.delete(f"{API}/instances/{key}"),
    "soft deletion of many": lambda client, key: client.post(
        f"{API}/instances/batch-delete", json={"instance_ids": [key]}
    ),
    "tagging of many": lambda client, key: client.post(
        f"{API}/instances/batch-tags", json={"instance_ids": [key], "add": ["new"]}
    ),
    "import": lambda client, key: client.post(
        f"{API}/instances/batch-create",
        files={"file": csv_of("old,mysql,elsewhere")},
        data={"on_existing": "update"},
    ),
    "atomic import": lambda client, key: client.post(
        f"{API}/instances/batch-create",
        files={"file": csv_of("old,mysql,old,new", columns="name,db_type,host,tags")},
        data={"on_existing": "update", "atomic": True},
    ),
}


class TestCalls:
    @pytest.mark.parametrize("change", CHANGES_OF_AN_INSTANCE)
    async def test_change_an_instance(
        self, client: httpx.AsyncClient, admin: int, database: Database, old: Any, change: str
    ) -> None:
        key, other = await old("instance", name="old", host="old", endpoint_key="mysql:old:3306"), await old("instance")
        answer = await CHANGES_OF_AN_INSTANCE[change](client, key)
        assert answer.is_success, answer.text
        changed = await trace(database, "instances", key)
        assert (changed.created_by, changed.updated_by) == (ANN, admin)
        assert changed.created_at == LONG_AGO
        assert changed.is_touched
        assert not (await trace(database, "instances", other)).is_touched

    async def test_restore_one(self, client: httpx.AsyncClient, admin: int, database: Database, old: Any) -> None:
        key = await old("instance", deleted_at=LONG_AGO)
        assert (await client.post(f"{API}/instances/{key}/restore")).status_code == 200
        changed = await trace(database, "instances", key)
        assert (changed.created_by, changed.updated_by, changed.is_touched) == (ANN, admin, True)

    async def test_that_change_nothing_leave_none(
        self, client: httpx.AsyncClient, database: Database, old: Any
    ) -> None:
        key = await old("instance", name="old", host="old", endpoint_key="mysql:old:3306", description="x")
        assert (await client.patch(f"{API}/instances/{key}", json={"description": "x"})).status_code == 200
        await import_csv(client, csv_of("old,mysql,old"), on_existing="update")
        assert await trace(database, "instances", key) == Trace(ANN, ANN, LONG_AGO, LONG_AGO)

    @pytest.mark.parametrize(
        ("kind", "table", "values", "body"),
        [
            ("tag", "tags", {"name": "t"}, {"color": "#ffffff"}),
            ("credential", "credentials", {"name": "c"}, {"password": "new"}),
        ],
    )
    async def test_change_other_things(
        self,
        client: httpx.AsyncClient,
        admin: int,
        database: Database,
        old: Any,
        kind: str,
        table: str,
        values: Any,
        body: Any,
    ) -> None:
        key = await old(kind, **values)
        assert (await client.patch(f"{API}/{table}/{key}", json=body)).status_code == 200
        changed = await trace(database, table, key)
        assert (changed.created_by, changed.updated_by, changed.is_touched) == (ANN, admin, True)

    async def test_make_things_by_token_and_by_key(self, app: FastAPI, registry: Registry, database: Database) -> None:
        """Two callers, one after the other, by the same statements."""
        bodies = {
            "instances": {"db_type": "mysql", "tags": []},
            "tags": {},
            "credentials": {"type": "database", "username": "u", "password": "p"},
            "spaces": {},
        }
        for number, headers_of in enumerate((signed_in_as, key_of)):
            user = await registry.user(role="admin")
            async with client_of(app, await headers_of(app, user)) as client:
                for table, body in bodies.items():
                    values = {"name": f"{table}-{number}", "host": f"h{number}"} if table == "instances" else {}
                    answer = await client.post(f"{API}/{table}", json=body | {"name": f"{table}-{number}"} | values)
                    made = await trace(database, table, answer.json()["id"])
                    assert (made.created_by, made.updated_by) == (user, user), table
                report = await import_csv(client, csv_of(f"row-{number},pg,row{number}"))
                made = await trace(database, "instances", report.id_of(2))
                assert (made.created_by, made.updated_by) == (user, user)


class TestKeyRotation:
    async def test_is_no_change_of_a_credential(self, database: Database, old: Any) -> None:
        key = await old("credential", encrypted_password=Fernet.generate_key().decode())
        await by(database, None, lambda session: credential_repository.replace_passwords(session, {key: "sealed"}))
        assert await trace(database, "credentials", key) == Trace(ANN, ANN, LONG_AGO, LONG_AGO)
