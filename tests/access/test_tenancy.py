"""The tenant filter: whatever form a statement has, a caller reaches rows of their own spaces only."""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import (
    Executable,
    Select,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    lambda_stmt,
    literal,
    select,
    table,
    text,
    union,
    union_all,
    update,
)
from sqlalchemy import column as plain_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import aliased

from app.access import tenancy
from app.access.restriction import OWNED, UnrestrictedStatement, restricted
from app.access.tenancy import SPACES_CHECKED
from app.caller import Call, Caller, calling
from app.config import Settings
from app.database import Database
from app.database.statements import dialect_name, fetch_rows
from app.models import Base
from app.models.base import table_of
from app.models.credential import Credential
from app.models.instance import Instance
from app.models.inventory import InstanceAccount
from app.models.role import Role
from app.models.space import Space
from app.models.tag import InstanceTag, Tag
from app.models.user import User
from tests.factories import Registry

instances, tags, links = table_of(Instance), table_of(Tag), table_of(InstanceTag)
credentials, spaces, accounts = table_of(Credential), table_of(Space), table_of(InstanceAccount)
other_instances, other_tags = instances.alias("others"), tags.alias("other_tags")
OtherInstance = aliased(Instance)


@dataclass(frozen=True)
class Fleet:
    """Everything twice: in the space of the caller, and in one that they may not reach."""

    own: int
    foreign: int
    own_instance: int
    foreign_instance: int
    own_tag: int
    foreign_tag: int


async def furnished(registry: Registry, name: str) -> tuple[int, int, int]:
    space_id = await registry.space(name)
    credential_id = await registry.credential(f"{name}-credential", space_id=space_id)
    instance_id = await registry.instance(name=f"{name}-instance", space_id=space_id, credential_id=credential_id)
    tag_id = await registry.tag(f"{name}-tag", space_id=space_id)
    await registry.insert("instance_tags", instance_id=instance_id, tag_id=tag_id)
    await registry.insert("instance_accounts", instance_id=instance_id, username=f"{name}-account")
    return space_id, instance_id, tag_id


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """Without the application."""
    opened = Database(settings)
    yield opened
    await opened.dispose()


@pytest.fixture
async def fleet(registry: Registry) -> Fleet:
    own, own_instance, own_tag = await furnished(registry, "own")
    foreign, foreign_instance, foreign_tag = await furnished(registry, "foreign")
    return Fleet(own, foreign, own_instance, foreign_instance, own_tag, foreign_tag)


def as_tenant(fleet: Fleet) -> AbstractContextManager[Call]:
    """The calls of somebody who may reach the own space."""
    return calling(Call(caller=Caller(1, "tenant"), spaces=frozenset({fleet.own})))


async def rows(database: Database, statement: Any, **parameters: Any) -> list[Any]:
    async with database.readers() as session:
        return [tuple(row) for row in await session.execute(statement, parameters)]


_cte = select(instances.c.name).cte("named")
_numbered = select(literal(1).label("number")).cte("numbers", recursive=True)
_numbers = _numbered.union_all(select(_numbered.c.number + 1).where(_numbered.c.number < 3))
# Each reads names: `own-…` and, when nothing holds it back, `foreign-…`.
READS: dict[str, Select[Any] | Any] = {
    "table": select(instances.c.name),
    "entity": select(Instance.name),
    "space itself": select(spaces.c.name),
    "below an instance": select(accounts.c.username),
    "below an instance, as entity": select(InstanceAccount.username),
    "alias": select(other_instances.c.name),
    "alias of an entity": select(OtherInstance.name),
    "alias of an alias": select(instances.alias().alias().c.name),
    "alias of what is below": select(accounts.alias().c.username),
    "sample of a table": select(func.min(instances.c.name)),
    "two tables, crossed": select(instances.c.name, tags.c.name).where(instances.c.id < tags.c.id + 1_000),
    "table and its alias, crossed": select(instances.c.name, other_instances.c.name).where(
        instances.c.id < other_instances.c.id + 1_000
    ),
    "entity and its alias, crossed": select(Instance.name, OtherInstance.name).where(
        Instance.id < OtherInstance.id + 1_000
    ),
    "join": select(tags.c.name, instances.c.name).select_from(links.join(tags).join(instances)),
    "join of anything with anything": select(tags.c.name, instances.c.name).join_from(instances, tags, literal(True)),
    "join to an alias": select(instances.c.name, other_instances.c.name).join_from(
        instances, other_instances, literal(True)
    ),
    "join of entities": select(Instance.name, Tag.name).join(Tag, literal(True)),
    "join to what belongs to no space": select(instances.c.name).join_from(table_of(User), instances, literal(True)),
    "outer join": select(instances.c.name, credentials.c.name).join_from(instances, credentials, isouter=True),
    "outer join of anything with anything": select(instances.c.name, tags.c.name).join_from(
        instances, tags, literal(True), isouter=True
    ),
    "outer join to an alias": select(instances.c.name, other_tags.c.name).join_from(
        instances, other_tags, literal(True), isouter=True
    ),
    "outer join from what belongs to no space": select(func.coalesce(instances.c.name, "own nothing")).join_from(
        table_of(User), instances, literal(True), isouter=True
    ),
    "nested outer join": select(instances.c.name, tags.c.name).select_from(
        instances.outerjoin(links.join(tags), literal(True))
    ),
    "full join": select(
        func.coalesce(instances.c.name, "own nothing"), func.coalesce(tags.c.name, "own nothing")
    ).join_from(instances, tags, instances.c.id == tags.c.id + 1_000_000, full=True),
    "subquery in FROM": select(select(instances.c.name).subquery().c.name),
    "subquery of a subquery": select(select(select(Tag.name).subquery().c.name).subquery().c.name),
    "subquery that a join meets": select(instances.c.name, (found := select(tags.c.name).subquery()).c.name).join_from(
        instances, found, literal(True)
    ),
    "scalar subquery": select(select(func.min(instances.c.name)).scalar_subquery()),
    "scalar subquery, correlated": select(
        instances.c.name,
        select(func.min(tags.c.name))
        .select_from(links.join(tags))
        .where(links.c.instance_id == instances.c.id)
        .scalar_subquery(),
    ),
    "CTE": select(_cte.c.name),
    "CTE under an alias": select(_cte.alias().c.name),
    "CTE used twice": select(_cte.c.name).where(_cte.c.name.in_(select(_cte.c.name))),
    "recursive CTE": select(instances.c.name).where(instances.c.id != 0).join_from(instances, _numbers, literal(True)),
    "union": union(select(instances.c.name), select(tags.c.name)),
    "union of several": union_all(select(instances.c.name), select(spaces.c.name), select(accounts.c.username)),
    "union in FROM": select(union(select(instances.c.name), select(tags.c.name)).subquery().c.name),
    "distinct, in order, limited": select(instances.c.name).distinct().order_by(instances.c.name).limit(1),
    "grouped": select(instances.c.name, func.count()).group_by(instances.c.name),
    "window": select(func.min(instances.c.name).over()),
    "order by a subquery": select(instances.c.name).order_by(
        select(func.count()).select_from(links).where(links.c.instance_id == instances.c.id).scalar_subquery()
    ),
    "lightweight table": select(table("instances", plain_column("name"), plain_column("space_id")).c.name),
}


# Each asks whether there is a row that is foreign, and answers with a row when there is.
_is_foreign = instances.c.name == "foreign-instance"
QUESTIONS: dict[str, Any] = {
    "IN": select(literal(1)).where(literal("foreign-tag").in_(select(tags.c.name))),
    "IN a union": select(literal(1)).where(
        literal("foreign-tag").in_(union(select(tags.c.name), select(spaces.c.name)))
    ),
    "EXISTS": select(literal(1)).where(exists().where(_is_foreign)),
    "EXISTS of an alias": select(literal(1)).where(
        select(OtherInstance.id).where(OtherInstance.name == "foreign-instance").exists()
    ),
    "EXISTS in CASE": select(literal(1)).where(case((exists().where(_is_foreign), literal(1)), else_=0) == 1),
    "EXISTS in HAVING": select(func.count()).select_from(table_of(User)).having(exists().where(_is_foreign)),
    "EXISTS in a join": select(literal(1)).join_from(
        table_of(User), table_of(Role), select(tags.c.id).where(tags.c.name == "foreign-tag").exists()
    ),
    "count": select(func.count()).select_from(instances).having(func.count() > 1),
    "count of a subquery": select(func.count()).select_from(select(Instance.id).subquery()).having(func.count() > 1),
    "count of what is below": select(func.count()).select_from(links).having(func.count() > 1),
}


async def names(database: Database, source: Any = instances) -> set[str]:
    return {row[0] for row in await rows(database, select(source.c.name))}


class TestReads:
    @pytest.mark.parametrize("shape", READS)
    async def test_see_rows_of_own_spaces_only(self, database: Database, admin: int, fleet: Fleet, shape: str) -> None:
        with as_tenant(fleet):
            found = str(await rows(database, READS[shape]))
        assert "foreign" not in found
        assert "own" in found
        assert "foreign" in str(await rows(database, READS[shape])), "the statement would see it"

    @pytest.mark.parametrize("question", QUESTIONS)
    async def test_learn_nothing_of_other_spaces(
        self, database: Database, admin: int, fleet: Fleet, question: str
    ) -> None:
        with as_tenant(fleet):
            assert await rows(database, QUESTIONS[question]) == []
        assert await rows(database, QUESTIONS[question]) != [], "the statement would learn it"

    async def test_an_outer_join_keeps_rows_without_a_partner(
        self, database: Database, registry: Registry, fleet: Fleet
    ) -> None:
        await registry.instance(name="own-lonely", space_id=fleet.own)
        joined = select(instances.c.name, credentials.c.name).join_from(instances, credentials, isouter=True)
        with as_tenant(fleet):
            assert set(await rows(database, joined)) == {("own-instance", "own-credential"), ("own-lonely", None)}

    async def test_who_may_reach_several_spaces_sees_them_all(self, database: Database, fleet: Fleet) -> None:
        with as_tenant(fleet) as call:
            call.spaces = frozenset({fleet.own, fleet.foreign})
            assert await names(database) == {"own-instance", "foreign-instance"}

    async def test_who_may_reach_none_sees_nothing(self, database: Database, fleet: Fleet) -> None:
        with calling(Call()):
            assert await names(database) == set()

    async def test_ever_so_many_spaces_are_no_trouble(self, database: Database, fleet: Fleet) -> None:
        """Databases take some 32,000 parameters, and each table of a statement needs the spaces."""
        with as_tenant(fleet) as call:
            call.spaces = frozenset({fleet.own, *range(1_000, 40_000)})
            found = await rows(database, READS["union of several"])
        assert {name for (name,) in found} == {"own", "own-instance", "own-account"}

    async def test_what_belongs_to_no_space_is_left_alone(self, database: Database, admin: int, fleet: Fleet) -> None:
        with as_tenant(fleet):
            assert await rows(database, select(User.id)) == [(admin,)]

    async def test_the_statement_itself_is_not_changed(self, database: Database, fleet: Fleet) -> None:
        """Many are made once and kept."""
        before = str(READS["CTE used twice"])
        with as_tenant(fleet):
            await rows(database, READS["CTE used twice"])
        assert str(READS["CTE used twice"]) == before

    async def test_whoever_says_so_has_checked(self, database: Database, fleet: Fleet) -> None:
        checked = select(instances.c.name).execution_options(**SPACES_CHECKED)
        with as_tenant(fleet):
            assert len(await rows(database, checked)) == 2


class TestWaysToExecute:
    async def test_each_is_restricted(self, database: Database, fleet: Fleet) -> None:
        statement = select(Instance.name)
        with as_tenant(fleet):
            async with database.readers() as session:
                assert await session.scalar(statement.order_by(Instance.name)) == "own-instance"
                assert (await session.scalars(statement)).all() == ["own-instance"]
                by_hand = await session.run_sync(lambda each: each.execute(statement).all())
                assert by_hand == [("own-instance",)]
                assert await session.run_sync(lambda each: each.query(Instance.name).all()) == [("own-instance",)]

    async def test_streaming(self, database: Database, fleet: Fleet) -> None:
        statement = select(Instance.name)
        with as_tenant(fleet):
            async with database.writers.begin() as session:
                assert [name async for name in await session.stream_scalars(statement)] == ["own-instance"]
                assert [row.name async for row in await session.stream(statement)] == ["own-instance"]

    async def test_getting_by_key(self, database: Database, fleet: Fleet) -> None:
        with as_tenant(fleet):
            async with database.readers() as session:
                assert await session.get(Instance, fleet.foreign_instance) is None
                assert await session.get(Space, fleet.foreign) is None
                assert await session.get(InstanceTag, (fleet.foreign_instance, fleet.foreign_tag)) is None
                own = await session.get(Instance, fleet.own_instance)
                assert own is not None
                await session.refresh(own)
                assert own.name == "own-instance"

    async def test_getting_with_a_lock(self, database: Database, fleet: Fleet) -> None:
        with as_tenant(fleet):
            async with database.writers.begin() as session:
                assert await session.get(Tag, fleet.foreign_tag, with_for_update=True) is None
                locked = select(tags.c.id).with_for_update(of=tags)
                assert (await session.scalars(locked)).all() == [fleet.own_tag]

    async def test_straight_to_the_driver(self, database: Database, fleet: Fleet) -> None:
        with as_tenant(fleet):
            async with database.readers() as session:
                dialect = session.get_bind().dialect
                restricted = select(instances.c.name).where(tenancy.condition(dialect.name, instances.c.space_id))
                compiled = str(restricted.compile(dialect=dialect, compile_kwargs={"render_postcompile": True}))
                found = await fetch_rows(session, compiled, [tenancy.parameter(dialect.name)])
        assert [tuple(row) for row in found] == [("own-instance",)]


def _changes(fleet: Fleet) -> dict[str, Any]:
    """Each would change what is foreign."""
    is_foreign = instances.c.id == fleet.foreign_instance
    foreign_tag_name = select(tags.c.name).where(tags.c.id == fleet.foreign_tag)
    return {
        "update": update(instances).values(name="changed"),
        "update by id": update(instances).where(is_foreign).values(name="changed"),
        "update of an entity": update(Instance).values(name="changed"),
        "update of an entity, unsynchronised": update(Instance)
        .values(name="changed")
        .execution_options(synchronize_session=False),
        "update of a space": update(Space).where(Space.id == fleet.foreign).values(name="changed"),
        "update of what is below": update(accounts).values(username="changed"),
        "update by a subquery": update(instances)
        .where(instances.c.id.in_(select(other_instances.c.id)))
        .values(name="changed"),
        "delete": delete(links),
        "delete by id": delete(links).where(links.c.instance_id == fleet.foreign_instance),
        "delete of an entity": delete(InstanceAccount),
        "update from another table": update(instances)
        .where(instances.c.id == fleet.own_instance, tags.c.id == fleet.foreign_tag)
        .values(name=tags.c.name),
        "update from an alias": update(instances)
        .where(instances.c.id == fleet.own_instance, other_tags.c.id == fleet.foreign_tag)
        .values(name=other_tags.c.name),
        "update to a subquery": update(accounts)
        .where(accounts.c.instance_id == fleet.own_instance)
        .values(username=func.coalesce(foreign_tag_name.scalar_subquery(), "own-account")),
        "insert from a select": insert(links).from_select(
            ["instance_id", "tag_id"],
            select(literal(fleet.own_instance), tags.c.id).where(tags.c.id == fleet.foreign_tag),
        ),
        "insert from a select, below": insert(accounts).from_select(
            ["instance_id", "username"],
            select(instances.c.id, literal("foreign-copy")).where(is_foreign),
        ),
        "insert of a subquery's value": insert(table_of(Role)).from_select(
            ["name"], select(instances.c.name).where(is_foreign)
        ),
    }


async def everything(database: Database) -> list[tuple[str, Any]]:
    found = []
    for source in (instances, tags, links, accounts, spaces, credentials, table_of(Role)):
        columns = [each for each in source.c if each.name not in ("updated_at", "updated_by")]
        found += [(source.name, row) for row in await rows(database, select(*columns).order_by(*source.primary_key))]
    return found


async def foreign_rows(database: Database, fleet: Fleet) -> list[tuple[str, Any]]:
    """What is in the foreign space, and what has been copied from it."""
    return [
        (name, row)
        for name, row in await everything(database)
        if "foreign" in str(row) or (name == "instance_tags" and fleet.foreign_tag in row)
    ]


@pytest.mark.filterwarnings("ignore:.* statement has a cartesian product")
class TestChanges:
    @pytest.mark.parametrize("shape", _changes(Fleet(0, 0, 0, 0, 0, 0)))
    async def test_reach_rows_of_own_spaces_only(self, database: Database, fleet: Fleet, shape: str) -> None:
        before = await foreign_rows(database, fleet)
        with as_tenant(fleet):
            async with database.writers.begin() as session:
                await session.execute(_changes(fleet)[shape])
        assert await foreign_rows(database, fleet) == before

    @pytest.mark.parametrize("shape", _changes(Fleet(0, 0, 0, 0, 0, 0)))
    async def test_would_reach_more(self, database: Database, fleet: Fleet, shape: str) -> None:
        """The test above sees something."""
        before = await foreign_rows(database, fleet)
        async with database.writers.begin() as session:
            await session.execute(_changes(fleet)[shape])
        assert await foreign_rows(database, fleet) != before

    async def test_reach_rows_of_own_spaces(self, database: Database, fleet: Fleet) -> None:
        with as_tenant(fleet):
            async with database.writers.begin() as session:
                await session.execute(update(instances).values(name="own-changed"))
                await session.execute(delete(InstanceTag))
        assert await names(database) == {"own-changed", "foreign-instance"}
        assert await rows(database, select(links.c.instance_id)) == [(fleet.foreign_instance,)]

    async def test_read_only_what_is_of_own_spaces(self, fleet: Fleet) -> None:
        """Also what is named by nothing but the new values."""
        statement = update(table_of(Role)).values(name=instances.c.name)
        assert "instances.space_id = ANY" in str(
            restricted(statement, "postgresql", {fleet.own}).compile(dialect=postgresql.dialect())
        )

    async def test_of_many_entities_by_key(self, database: Database, fleet: Fleet) -> None:
        """What the ORM calls a bulk update; it takes no conditions of ours, and so it is refused."""
        changes = [{"id": key, "name": "changed"} for key in (fleet.own_instance, fleet.foreign_instance)]
        with as_tenant(fleet), pytest.raises((UnrestrictedStatement, InvalidRequestError)):
            async with database.writers.begin() as session:
                await session.execute(update(Instance), changes)
        assert await names(database) == {"own-instance", "foreign-instance"}

    async def test_of_many_rows_by_key(self, database: Database, fleet: Fleet) -> None:
        statement = update(instances).where(instances.c.id == bindparam("key")).values(name=bindparam("new_name"))
        changes = [{"key": key, "new_name": f"changed-{key}"} for key in (fleet.own_instance, fleet.foreign_instance)]
        with as_tenant(fleet):
            async with database.writers.begin() as session:
                await session.execute(statement, changes)
        assert await names(database) == {f"changed-{fleet.own_instance}", "foreign-instance"}

    async def test_on_conflict(self, database: Database, fleet: Fleet) -> None:
        """An upsert by a unique key that is not the space's own could change what is foreign; it is refused."""
        with as_tenant(fleet):
            async with database.writers.begin() as session:
                dialect = postgresql if dialect_name(session) == "postgresql" else sqlite
                upsert = dialect.insert(tags).values(id=fleet.foreign_tag, space_id=fleet.own, name="taken")
                with pytest.raises(UnrestrictedStatement):
                    await session.execute(upsert.on_conflict_do_update(index_elements=["id"], set_={"name": "changed"}))
                await session.execute(upsert.on_conflict_do_nothing())
        assert await names(database, tags) == {"own-tag", "foreign-tag"}


class TestRefusals:
    """What has no place for a condition fails, instead of showing what it should not."""

    @pytest.mark.parametrize(
        "statement",
        [
            text("SELECT name FROM instances"),
            text("SELECT users.id FROM users, Instances"),
            text("  WITH a AS (SELECT * FROM tags) SELECT * FROM a"),
            text('DELETE FROM "instance_accounts"'),
            text("UPDATE spaces SET name = 'changed'"),
            text("INSERT INTO roles (name) SELECT name FROM tags"),
            select(text("name FROM instances")),
            select(literal(1)).where(text("EXISTS (SELECT 1 FROM instances)")),
            select(literal(1)).select_from(text("SELECT name FROM instances").columns(plain_column("name")).subquery()),
            text("SELECT name FROM instances").columns(plain_column("name")),
            select(Instance).from_statement(text("SELECT * FROM instances")),
            lambda_stmt(lambda: select(instances.c.name)),
            select(table("instances", plain_column("name")).c.name),
            func.count(instances.c.id),
            update(table_of(Role)).values(name=_cte.c.name),
            update(table_of(Role)).values(name="changed").where(literal("foreign") == _cte.c.name),
            delete(table_of(Role)).where(table_of(Role).c.name == _cte.c.name),
        ],
        ids=str,
    )
    async def test_unrestricted(self, database: Database, fleet: Fleet, statement: Executable) -> None:
        with as_tenant(fleet):
            async with database.writers.begin() as session:
                with pytest.raises(UnrestrictedStatement):
                    await session.execute(statement)

    @pytest.mark.parametrize(
        "command", ["SELECT 1 AS number", "SELECT name FROM roles", "DELETE FROM sign_in_failures"]
    )
    async def test_text_about_other_things_is_executed(self, database: Database, fleet: Fleet, command: str) -> None:
        with as_tenant(fleet):
            async with database.writers.begin() as session:
                await session.execute(text(command))


class TestOwned:
    def test_every_table_that_belongs_to_spaces_is_known(self) -> None:
        """By its own column, or by its instance's; a table that has neither must not need one. What belongs to a user,
        wherever it is, is found by its owner."""
        exempt = {"role_grants", "operations", "operation_items"}
        owned = {"spaces": "id"} | {
            each.name: "space_id" if "space_id" in each.c else "instance_id"
            for each in Base.metadata.tables.values()
            if ("space_id" in each.c or "instance_id" in each.c) and each.name not in exempt
        }
        assert owned == OWNED
        assert len(owned) > 15

    def test_what_refers_to_something_owned_is_owned(self) -> None:
        """Else its rows would be seen by everybody. Slices of a sync are read by nobody but its operation's worker,
        which has looked its instances up in the operation's space before it does anything to them."""
        exempt = {"role_grants", "sync_slices"}
        assert [
            each.name
            for each in Base.metadata.tables.values()
            if each.name not in OWNED.keys() | exempt
            and any(key.column.table.name in OWNED for key in each.foreign_keys)
        ] == []
