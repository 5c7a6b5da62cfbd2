"""Making the tags that an import or an instance names."""

import asyncio

import pytest
from sqlalchemy import insert, select

from app.database import Database
from app.models.audit import AuditEvent
from app.models.tag import InstanceTag, Tag
from app.tags.service import TagService
from tests.factories import Registry


async def ensure(database: Database, space_id: int, names: list[str]) -> dict[str, int]:
    async with database.writers.begin() as session:
        return await TagService(session).ensure(space_id, names)


async def stored_tags(database: Database) -> list[tuple[int, str, int]]:
    async with database.readers() as session:
        return list((await session.execute(select(Tag.space_id, Tag.name, Tag.id).order_by(Tag.id))).all())


async def tags_made(database: Database) -> list[tuple[str | None, int | None]]:
    """Name and id of every audit entry that says a tag was made."""
    statement = select(AuditEvent.resource_name, AuditEvent.resource_id).where(AuditEvent.action == "tag:create")
    async with database.readers() as session:
        return list((await session.execute(statement.order_by(AuditEvent.id))).all())


class TestEnsure:
    async def test_makes_what_is_missing_and_finds_the_rest(self, database: Database, registry: Registry) -> None:
        space_id = await registry.default_space()
        known = await registry.tag("blue")
        ids = await ensure(database, space_id, ["red", "blue", "red"])
        assert ids == {"blue": known, "red": ids["red"]}
        assert await ensure(database, space_id, ["red", "blue"]) == ids
        assert [name for _, name, _ in await stored_tags(database)] == ["blue", "red"]

    async def test_records_only_what_it_made(self, database: Database, registry: Registry) -> None:
        space_id = await registry.default_space()
        await registry.tag("blue")
        ids = await ensure(database, space_id, ["red", "blue"])
        assert await tags_made(database) == [("red", ids["red"])]

    async def test_without_names_does_nothing(self, database: Database, registry: Registry) -> None:
        assert await ensure(database, await registry.default_space(), []) == {}

    async def test_names_belong_to_their_space(self, database: Database, registry: Registry) -> None:
        other = await registry.space()
        elsewhere = await registry.tag("blue", space_id=other)
        ids = await ensure(database, await registry.default_space(), ["blue"])
        assert ids["blue"] != elsewhere

    async def test_made_tags_have_defaults_of_their_own(self, database: Database, registry: Registry) -> None:
        ids = await ensure(database, await registry.default_space(), ["red"])
        async with database.readers() as session:
            tag = await TagService(session).get(ids["red"])
        assert (tag.revision, tag.color, tag.created_at.tzinfo is None) == (1, None, False)

    async def test_many_names_at_once(self, database: Database, registry: Registry) -> None:
        """More than either database takes as parameters of one statement."""
        names = [f"tag-{number}" for number in range(40_000)]
        ids = await ensure(database, await registry.default_space(), names)
        assert len(set(ids.values())) == len(ids) == len(names)

    async def test_names_with_quotes_and_other_scripts(self, database: Database, registry: Registry) -> None:
        names = ["it's", 'say "hi"', "核心", "%_\\", "é"]
        assert (await ensure(database, await registry.default_space(), names)).keys() == set(names)


class TestEnsureBesideAnotherWriter:
    async def test_waits_for_a_writer_of_the_same_names(self, database: Database, registry: Registry) -> None:
        space_id = await registry.default_space()
        async with database.writers.begin() as session:
            first = await TagService(session).ensure(space_id, ["blue", "red"])
            second = asyncio.create_task(ensure(database, space_id, ["green", "red", "blue"]))
            await asyncio.sleep(0.2)
            assert not second.done()
        assert (await second) | first == await second
        assert len(await stored_tags(database)) == len(await tags_made(database)) == 3

    async def test_makes_them_itself_when_the_other_gives_up(self, database: Database, registry: Registry) -> None:
        space_id = await registry.default_space()
        with pytest.raises(ZeroDivisionError):
            async with database.writers.begin() as session:
                await TagService(session).ensure(space_id, ["red"])
                second = asyncio.create_task(ensure(database, space_id, ["red"]))
                await asyncio.sleep(0.2)
                raise ZeroDivisionError
        ids = await second
        assert await stored_tags(database) == [(space_id, "red", ids["red"])]
        assert await tags_made(database) == [("red", ids["red"])]

    async def test_many_writers_of_overlapping_names_never_deadlock(
        self, database: Database, registry: Registry
    ) -> None:
        space_id = await registry.default_space()
        names = [f"tag-{number}" for number in range(60)]
        slices = [names[start:] + names[:start] for start in range(0, 60, 5)]
        answers = await asyncio.gather(*(ensure(database, space_id, each) for each in slices))
        assert all(answer == answers[0] for answer in answers)
        assert len(await stored_tags(database)) == len(await tags_made(database)) == 60

    async def test_a_tag_that_was_ensured_cannot_be_deleted_meanwhile(
        self, database: Database, registry: Registry
    ) -> None:
        space_id, instance_id, tag_id = (
            await registry.default_space(),
            await registry.instance(),
            await registry.tag("x"),
        )

        async def delete() -> None:
            async with database.writers.begin() as session:
                await TagService(session).delete(tag_id, None, force=True)

        async with database.writers.begin() as session:
            await TagService(session).ensure(space_id, ["x"])
            deletion = asyncio.create_task(delete())
            await asyncio.sleep(0.2)
            assert not deletion.done()
            await session.execute(insert(InstanceTag).values(instance_id=instance_id, tag_id=tag_id))
        await deletion
        assert await stored_tags(database) == []
        assert (await registry.rows_of([instance_id]))["instance_tags"] == 0
