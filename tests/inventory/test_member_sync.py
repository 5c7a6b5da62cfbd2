"""Places in replication and clusters: what is found replaces what was known, whatever the kind of server."""

import asyncio
from dataclasses import asdict

import pytest

from app.caller import Call, Caller, calling
from app.database import Database
from app.errors import NotFound
from app.inventory.member_repository import KINDS, TABLES
from app.inventory.records import (
    Member,
    MongodbMember,
    MysqlMember,
    OracleMember,
    PostgresqlMember,
    RedisMember,
    SqlserverMember,
)
from app.models.instance import DatabaseType
from tests.factories import Registry
from tests.inventory.syncing import FIRST, SECOND, rows, statements_of, sync_members

EACH: list[Member] = [
    MysqlMember(
        role="replica",
        server_uuid="0" * 36,
        server_id=2**32 - 1,
        source_host="my-01",
        source_port=3306,
        is_read_only=True,
        replication_state="running",
        lag_seconds=3,
        gtid_executed="a:1-5,\nb:1",
    ),
    PostgresqlMember(role="standby", system_identifier="7" * 19, timeline=3, source_host="pg-01", lag_seconds=0),
    RedisMember(mode="cluster", role="primary", node_id="a" * 40, replica_count=2),
    MongodbMember(role="secondary", replica_set_name="rs0", member_name="mo-02:27017"),
    OracleMember(role="physical standby", open_mode="MOUNTED", instance_number=2),
    SqlserverMember(group_name="ag-1", role="primary", availability_mode="synchronous_commit", listener="ag-1.example"),
]


@pytest.fixture
async def instance(registry: Registry) -> int:
    return await registry.instance()


async def places(database: Database, instance_id: int) -> list[tuple[str, dict[str, object]]]:
    """Of every kind: the table's name, and the row without its keys."""
    return [
        (table.name, {key: row[key] for key in row if key not in ("id", "instance_id")})
        for table in TABLES.values()
        for row in await rows(database, table.name, instance_id)
    ]


def test_every_type_of_server_has_a_kind() -> None:
    assert KINDS.keys() == set(DatabaseType)
    assert set(KINDS.values()) == TABLES.keys()


@pytest.mark.parametrize("member", EACH, ids=lambda member: type(member).__name__)
async def test_is_written_as_it_was_found(database: Database, instance: int, member: Member) -> None:
    await sync_members(database, instance, member)
    expected = [(TABLES[type(member)].name, asdict(member) | {"seen_at": FIRST})]
    assert await places(database, instance) == expected
    with statements_of(database) as sent:
        await sync_members(database, instance, member, at=SECOND)
    assert len([text for text in sent if not text.startswith("BEGIN")]) == 2
    assert await places(database, instance) == [(name, row | {"seen_at": SECOND}) for name, row in expected]


async def test_changes(database: Database, instance: int) -> None:
    await sync_members(database, instance, PostgresqlMember(role="standby", source_host="pg-01", lag_seconds=5))
    await sync_members(database, instance, PostgresqlMember(role="primary", replica_count=1), at=SECOND)
    [(_, row)] = await places(database, instance)
    assert (row["role"], row["source_host"], row["lag_seconds"], row["replica_count"]) == ("primary", None, None, 1)


async def test_a_place_that_is_gone_is_gone(database: Database, instance: int) -> None:
    await sync_members(database, instance, EACH[1])
    await sync_members(database, instance, at=SECOND)
    assert await places(database, instance) == []


async def test_of_another_kind_of_server_replaces_it(database: Database, instance: int) -> None:
    await sync_members(database, instance, EACH[0])
    await sync_members(database, instance, EACH[1], at=SECOND)
    assert [name for name, _ in await places(database, instance)] == ["postgresql_cluster_instances"]


async def test_in_several_groups(database: Database, instance: int) -> None:
    def member(group: str, role: str = "primary") -> SqlserverMember:
        return SqlserverMember(group_name=group, role=role)

    await sync_members(database, instance, member("b"), member("a"), member("o'c"))
    await sync_members(database, instance, member("o'c", "secondary"), member("d"), member("b"), at=SECOND)
    found = [(row["group_name"], row["role"], row["seen_at"]) for _, row in await places(database, instance)]
    assert sorted(found) == [
        ("b", "primary", SECOND),
        ("d", "primary", SECOND),
        ("o'c", "secondary", SECOND),
    ]


async def test_of_two_for_one_place_the_first_stands(database: Database, instance: int) -> None:
    await sync_members(
        database, instance, RedisMember(mode="standalone", role="primary"), RedisMember(mode="cluster", role="replica")
    )
    assert [row["mode"] for _, row in await places(database, instance)] == ["standalone"]


async def test_fits_the_columns(database: Database, instance: int) -> None:
    await sync_members(
        database,
        instance,
        PostgresqlMember(role="r" * 100, source_host="h\x00" * 300, timeline=2**40, lag_seconds=2**70),
    )
    [(_, row)] = await places(database, instance)
    assert (len(str(row["role"])), len(str(row["source_host"]))) == (32, 255)
    assert (row["timeline"], row["lag_seconds"]) == (2**31 - 1, 2**63 - 1)


async def test_at_once(database: Database, instance: int) -> None:
    await asyncio.gather(*(sync_members(database, instance, EACH[5], at=SECOND) for _ in range(4)))
    assert len(await places(database, instance)) == 1


async def test_of_another_space(database: Database, registry: Registry, instance: int) -> None:
    with calling(Call(caller=Caller(1, "eve"), spaces=frozenset({await registry.space()}))), pytest.raises(NotFound):
        await sync_members(database, instance, EACH[0])
    with calling(Call(caller=Caller(1, "eve"), spaces=frozenset({await registry.default_space()}))):
        await sync_members(database, instance, EACH[0])
        await sync_members(database, instance, EACH[1], at=SECOND)
    assert len(await places(database, instance)) == 1
