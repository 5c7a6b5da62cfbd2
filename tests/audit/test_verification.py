"""Whatever is done to the trail by bare SQL is found, and nothing else is."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, text

from app.audit import chain_repository, verification
from app.audit.chain import BEGINNING, SEALED_COLUMNS, Link, Sealing
from app.audit.head import read_head
from app.audit.retention import AuditRetention
from app.audit.verification import AuditVerifier, Verification
from app.config import Settings
from app.database import Database
from app.models import Base
from tests.audit.trail import FULL, MOMENT, SEALING, add, events, kinds, places, seal, sealed, tamper, verify

# By column, what somebody might write there by SQL; the entry as it was is `FULL`.
FORGED: dict[str, list[str]] = {
    "id": ["1000"],
    "occurred_at": ["'2026-11-22 19:36:03.120046+00'", "'2026-11-23 19:36:03.120045+00'"],
    "space_id": ["2", "NULL"],
    "action": ["'instance:update'"],
    "resource_type": ["'tag'"],
    "resource_id": ["18", "NULL"],
    "resource_name": ["'pg-02'", "NULL", "''"],
    "outcome": ["'failed'", "'nonsense'"],
    "batch_id": ["'12345678123456781234567812345679'", "NULL"],
    "actor_id": ["4", "NULL"],
    "actor_name": ["'bob'", "NULL", "'ada '"],
    "api_key_prefix": ["'mk_other'", "NULL"],
    "client_address": ["'192.0.2.8'", "NULL"],
    "method": ["'PUT'", "NULL"],
    "path": ["'/api/v1/instances/'", "NULL"],
    "status": ["200", "NULL"],
    "duration_ms": ["13", "NULL"],
    "request_id": ["'abc-124'", "NULL"],
    "changes": ["""'{"after": {"port": 5433}}'""", "'{}'", "NULL", "'null'"],
}
CASES = [(column, value) for column, values in FORGED.items() for value in values]
# What only SQLite stores, which does not hold a column to its type.
ODD_CASES = [
    ("occurred_at", "'yesterday'"),
    ("occurred_at", "17"),
    ("space_id", "'one'"),
    ("space_id", "1.5"),
    ("actor_name", "x'616461'"),
    ("batch_id", "'no uuid'"),
    ("changes", "'{broken'"),
    ("changes", "x'00'"),
    ("status", "9e999"),
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The server's own sealer stays out of the way."""
    return settings.model_copy(update={"audit_seal_seconds": 3600.0})


async def head_of(database: Database) -> Link:
    async with database.readers() as session:
        head = await read_head(session)
    return Link(head.sequence, head.seal)


class TestGoodTrail:
    async def test_an_empty_one(self, database: Database) -> None:
        assert await verify(database) == Verification()

    async def test_one_that_is_not_sealed_yet_is_no_finding(self, database: Database) -> None:
        await add(database, 3)
        found = await verify(database)
        assert (found.findings, found.entries, found.unsealed) == ([], 0, 3)

    async def test_a_sealed_one(self, database: Database) -> None:
        await sealed(database, 5)
        await add(database, 2)
        found = await verify(database)
        assert (found.findings, found.entries, found.unsealed) == ([], 5, 2)
        assert found.end == await head_of(database)

    @pytest.mark.parametrize("entries", [9, 10, 11, 25])
    async def test_one_of_several_pages(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, entries: int
    ) -> None:
        monkeypatch.setattr(verification, "PAGE_ENTRIES", 10)
        await sealed(database, entries)
        found = await verify(database)
        assert (found.findings, found.entries) == ([], entries)

    async def test_what_rewrites_the_row_but_not_what_it_says(self, database: Database) -> None:
        await sealed(database, 2)
        await tamper(database, "UPDATE audit_events SET actor_name = actor_name, resource_id = resource_id")
        if database.is_sqlite:
            await tamper(database, "UPDATE audit_events SET changes = json(changes)")
        assert kinds(await verify(database)) == []


class TestChangedEntry:
    def test_every_column_is_tried(self) -> None:
        assert set(FORGED) == set(SEALED_COLUMNS)
        assert {*SEALED_COLUMNS, "sequence", "seal"} == set(events.c.keys())
        assert FULL.keys() == {*SEALED_COLUMNS} - {"id"}
        assert FULL["occurred_at"] == MOMENT

    @pytest.mark.parametrize(("column", "value"), CASES, ids=lambda each: each.strip("'\"")[:30])
    async def test_is_found(self, database: Database, column: str, value: str) -> None:
        await sealed(database, 3)
        if database.is_sqlite:
            value = value.replace("+00'", "'")
        await tamper(database, f"UPDATE audit_events SET {column} = {value.replace(':', chr(92) + ':')} WHERE id = 2")
        assert kinds(await verify(database)) == [("changed", 2)]

    @pytest.mark.parametrize("database_kind", ["sqlite"])
    @pytest.mark.parametrize(("column", "value"), ODD_CASES)
    async def test_is_found_where_the_value_does_not_fit_the_column(
        self, database: Database, column: str, value: str
    ) -> None:
        await sealed(database, 3)
        await tamper(database, f"UPDATE audit_events SET {column} = {value} WHERE id = 2")
        assert kinds(await verify(database)) == [("changed", 2)]

    @pytest.mark.parametrize("database_kind", ["sqlite"])
    async def test_infinity_is_not_taken_for_nothing(self, database: Database) -> None:
        await add(database, 1, status=None)
        await seal(database)
        await tamper(database, "UPDATE audit_events SET status = 9e999")
        assert kinds(await verify(database)) == [("changed", 1)]

    @pytest.mark.parametrize("database_kind", ["sqlite"])
    async def test_bytes_that_are_no_text_end_the_check_with_a_finding(self, database: Database) -> None:
        await sealed(database, 3)
        await tamper(database, "UPDATE audit_events SET actor_name = CAST(x'ff' AS TEXT) WHERE id = 2")
        assert [kind for kind, _ in kinds(await verify(database))] == ["unreadable"]

    @pytest.mark.parametrize("seal", ["'" + "0" * 64 + "'", "NULL"])
    async def test_a_changed_seal_breaks_the_next_one_too(self, database: Database, seal: str) -> None:
        await sealed(database, 3)
        await tamper(database, f"UPDATE audit_events SET seal = {seal} WHERE id = 2")
        assert kinds(await verify(database)) == [("changed", 2), ("changed", 3)]

    async def test_two_that_changed_places(self, database: Database) -> None:
        await sealed(database, 3)
        for before, after in ((1, 100), (2, 1), (100, 2)):
            await tamper(database, f"UPDATE audit_events SET sequence = {after} WHERE sequence = {before}")
        assert kinds(await verify(database)) == [("changed", 1), ("changed", 2), ("changed", 3)]

    async def test_another_key(self, database: Database) -> None:
        await sealed(database, 2)
        found = await AuditVerifier(database, Sealing(b"another")).verify()
        assert kinds(found) == [("anchor", 0), ("changed", 1), ("changed", 2)]

    async def test_the_check_ends_where_too_much_is_found(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verification, "MAX_FINDINGS", 3)
        await sealed(database, 10)
        await tamper(database, "UPDATE audit_events SET status = 500")
        assert kinds(await verify(database)) == [("changed", 1), ("changed", 2), ("changed", 3)]


class TestMissingEntry:
    async def test_in_the_middle(self, database: Database) -> None:
        await sealed(database, 6)
        await tamper(database, "DELETE FROM audit_events WHERE sequence IN (3, 4)")
        found = await verify(database)
        assert kinds(found) == [("missing", 3)]
        assert "entries 3 to 4" in found.findings[0].message

    async def test_at_the_beginning(self, database: Database) -> None:
        await sealed(database, 4)
        await tamper(database, "DELETE FROM audit_events WHERE sequence <= 2")
        assert kinds(await verify(database)) == [("missing", 1)]

    async def test_at_the_beginning_of_a_page(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verification, "PAGE_ENTRIES", 3)
        await sealed(database, 9)
        await tamper(database, "DELETE FROM audit_events WHERE sequence = 4")
        assert kinds(await verify(database)) == [("missing", 4)]

    async def test_with_the_numbers_after_it_moved_up(self, database: Database) -> None:
        await sealed(database, 4)
        await tamper(database, "DELETE FROM audit_events WHERE sequence = 2")
        for sequence in (3, 4):
            await tamper(database, f"UPDATE audit_events SET sequence = {sequence - 1} WHERE sequence = {sequence}")
        assert kinds(await verify(database)) == [("changed", 2), ("changed", 3)]

    async def test_one_that_was_given_back_to_the_sealer(self, database: Database) -> None:
        await sealed(database, 4)
        await tamper(database, "UPDATE audit_events SET sequence = NULL, seal = NULL, status = 1 WHERE sequence = 2")
        assert await seal(database) == 1
        assert kinds(await verify(database)) == [("missing", 2)]

    async def test_all_but_the_anchor_needs_a_head(self, database: Database) -> None:
        await sealed(database, 4)
        head = await head_of(database)
        await tamper(database, "DELETE FROM audit_events")
        assert kinds(await verify(database)) == []
        assert kinds(await verify(database, head)) == [("cut_off", 4)]


class TestCutOffTail:
    async def test_is_found_by_the_head(self, database: Database) -> None:
        await sealed(database, 5)
        head = await head_of(database)
        await tamper(database, "DELETE FROM audit_events WHERE sequence > 3")
        assert kinds(await verify(database)) == []
        assert kinds(await verify(database, head)) == [("cut_off", 5)]

    async def test_also_after_the_chain_went_on(self, database: Database) -> None:
        await sealed(database, 5)
        head = await head_of(database)
        await tamper(database, "DELETE FROM audit_events WHERE sequence > 3")
        await sealed(database, 4)
        assert kinds(await verify(database)) == []
        assert kinds(await verify(database, head)) == [("cut_off", 5)]

    async def test_also_after_everything_was_emptied(self, database: Database) -> None:
        await sealed(database, 5)
        head = await head_of(database)
        for table in ("audit_events", "audit_anchors"):
            await tamper(database, f"DELETE FROM {table}")
        assert kinds(await verify(database, head)) == [("cut_off", 5)]

    async def test_a_head_that_still_holds_is_no_finding(self, database: Database) -> None:
        heads = [await head_of(database)]
        for _ in range(3):
            await sealed(database, 2)
            heads.append(await head_of(database))
        for head in heads:
            found = await verify(database, head)
            assert (found.findings, found.is_exported_gone) == ([], False)


class TestInsertedEntry:
    async def insert(self, database: Database, **values: Any) -> None:
        async with database.engine.begin() as connection:
            await connection.execute(insert(events).values(**FULL | {"seal": "f" * 64} | values))

    @pytest.mark.parametrize(
        ("sequence", "expected"),
        [
            (4, [("changed", 4)]),
            (9, [("missing", 4)]),
            (0, [("inserted", 0)]),
            (-5, [("inserted", -5)]),
            (-(2**63) + 1, [("inserted", -(2**63) + 1)]),
        ],
    )
    async def test_with_a_forged_sequence(
        self, database: Database, sequence: int, expected: list[tuple[str, int]]
    ) -> None:
        await sealed(database, 3)
        await self.insert(database, sequence=sequence)
        assert kinds(await verify(database)) == expected

    async def test_is_found_also_once_others_were_sealed_behind_it(self, database: Database) -> None:
        await sealed(database, 3)
        await self.insert(database, sequence=4)
        await sealed(database, 2)
        assert [sequence for _, sequence in await places(database)] == [1, 2, 3, 4, 5, 6]
        assert kinds(await verify(database)) == [("changed", 4)]

    async def test_in_the_place_of_another(self, database: Database) -> None:
        await sealed(database, 3)
        async with database.engine.begin() as connection:
            stolen = (await connection.execute(text("SELECT seal FROM audit_events WHERE id = 2"))).scalar_one()
            await connection.execute(text("DELETE FROM audit_events WHERE id = 2"))
        await self.insert(database, sequence=2, seal=stolen)
        assert kinds(await verify(database)) == [("changed", 2)]

    @pytest.mark.parametrize("database_kind", ["sqlite"])
    async def test_with_a_sequence_that_is_no_number(self, database: Database) -> None:
        await sealed(database, 3)
        await tamper(database, "UPDATE audit_events SET sequence = 'last' WHERE id = 2")
        assert kinds(await verify(database)) == [("missing", 2)]
        await sealed(database, 1)

    async def test_among_what_retention_removed(self, database: Database) -> None:
        await sealed(database, 3)
        await AuditRetention(database, SEALING, 1).remove(MOMENT + timedelta(days=10))
        await self.insert(database, sequence=2)
        assert kinds(await verify(database)) == [("inserted", 2)]


class TestAnchor:
    async def shorten(self, database: Database) -> None:
        """Entries 1 to 3 are gone, 4 to 6 are there."""
        await sealed(database, 3)
        await add(database, 3, occurred_at=MOMENT + timedelta(days=40))
        await seal(database)
        assert await AuditRetention(database, SEALING, 30).remove(MOMENT + timedelta(days=41)) == 3
        await seal(database)

    async def test_joins_what_is_left_to_what_is_gone(self, database: Database) -> None:
        await self.shorten(database)
        found = await verify(database)
        # Three entries, and one about what was removed.
        assert (found.findings, found.start.sequence, found.entries) == ([], 3, 4)

    @pytest.mark.parametrize(
        "change",
        ["sequence = 4", f"seal = '{'0' * 64}'", "removed = 1", "created_at = '2020-01-01 00:00:00+00'",
         "unverifiable = 0", "unverifiable = 3", f"anchor_seal = '{'0' * 64}'", "anchor_seal = '\u6570'"],
    )  # fmt: skip
    async def test_one_that_was_changed_is_found(self, database: Database, change: str) -> None:
        await self.shorten(database)
        await tamper(
            database,
            f"UPDATE audit_anchors SET {change.replace(':', chr(92) + ':')} WHERE sequence = 3",
        )
        assert "anchor" in {kind for kind, _ in kinds(await verify(database))}

    def test_every_column_of_an_anchor_is_tried(self) -> None:
        columns = {"sequence", "seal", "removed", "created_at", "unverifiable", "anchor_seal"}
        assert set(Base.metadata.tables["audit_anchors"].c.keys()) == {"id", *columns}

    async def test_one_that_was_made_without_the_key(self, database: Database) -> None:
        """Who cuts off the beginning would need one that says that this was retention's doing."""
        await sealed(database, 4)
        async with database.readers() as session:
            [_, second, *_] = await chain_repository.sealed_after(session, 0, 10)
        forged = replace(Sealing(b"a guess").sealed_anchor(Link(2, str(second.seal)), 2, chain_repository.stored_now()))
        await tamper(database, "DELETE FROM audit_events WHERE sequence <= 2")
        async with database.writers.begin() as session:
            await chain_repository.add_anchor(session, forged)
        assert kinds(await verify(database)) == [("anchor", 2), ("missing", 1)]

    async def test_one_that_was_taken_away(self, database: Database) -> None:
        await self.shorten(database)
        await tamper(database, "DELETE FROM audit_anchors WHERE sequence = 3")
        assert kinds(await verify(database)) == [("missing", 1)]

    async def test_all_taken_away(self, database: Database) -> None:
        await sealed(database, 3)
        await tamper(database, "DELETE FROM audit_anchors")
        assert [kind for kind, _ in kinds(await verify(database))] == ["anchor"]

    async def test_one_that_was_copied(self, database: Database) -> None:
        await self.shorten(database)
        columns = "sequence, seal, removed, created_at, anchor_seal"
        await tamper(database, f"INSERT INTO audit_anchors ({columns}) SELECT {columns} FROM audit_anchors")
        assert kinds(await verify(database)) == [("anchor", 3)]

    async def test_entries_that_were_missing_stay_missing_after_retention(self, database: Database) -> None:
        await sealed(database, 3)
        await tamper(database, "DELETE FROM audit_events WHERE sequence = 2")
        await AuditRetention(database, SEALING, 1).remove(MOMENT + timedelta(days=10))
        found = await verify(database)
        assert kinds(found) == [("anchor", 3)]
        assert "2 of 3" in found.findings[0].message

    async def test_a_head_at_the_anchor(self, database: Database) -> None:
        await sealed(database, 3)
        head = await head_of(database)
        await AuditRetention(database, SEALING, 1).remove(MOMENT + timedelta(days=10))
        assert kinds(await verify(database, head)) == []
        assert kinds(await verify(database, replace(head, seal="0" * 64))) == [("cut_off", 3)]

    async def test_a_head_before_the_anchor_tells_nothing(self, database: Database) -> None:
        await sealed(database, 2)
        head = await head_of(database)
        await sealed(database, 1)
        await AuditRetention(database, SEALING, 1).remove(MOMENT + timedelta(days=10))
        found = await verify(database, head)
        assert (found.findings, found.is_exported_gone) == ([], True)


class TestBesideOthers:
    async def test_entries_that_retention_removes_meanwhile_are_not_missing(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verification, "PAGE_ENTRIES", 3)
        await sealed(database, 5)
        await add(database, 3, occurred_at=MOMENT + timedelta(days=9))
        await seal(database)
        real, pages = chain_repository.sealed_after, 0

        async def removing(session: Any, sequence: int, limit: int) -> Any:
            nonlocal pages
            pages += 1
            if pages == 2:
                monkeypatch.setattr(chain_repository, "sealed_after", real)
                await AuditRetention(database, SEALING, 5).remove(MOMENT + timedelta(days=10))
            return await real(session, sequence, limit)

        monkeypatch.setattr(chain_repository, "sealed_after", removing)
        found = await verify(database)
        assert (found.findings, found.entries) == ([], 6)

    async def test_entries_that_are_sealed_meanwhile(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(verification, "PAGE_ENTRIES", 2)
        await sealed(database, 3)
        real, pages = chain_repository.sealed_after, 0

        async def sealing(session: Any, sequence: int, limit: int) -> Any:
            nonlocal pages
            pages += 1
            if pages == 2:
                await sealed(database, 2)
            return await real(session, sequence, limit)

        monkeypatch.setattr(chain_repository, "sealed_after", sealing)
        found = await verify(database)
        assert (found.findings, found.entries) == ([], 5)


class TestHead:
    async def test_before_anything_is_sealed(self, database: Database) -> None:
        await add(database)
        async with database.readers() as session:
            head = await read_head(session)
        assert (Link(head.sequence, head.seal), head.entries, head.unsealed) == (BEGINNING, 0, 1)

    async def test_counts_what_is_left(self, database: Database) -> None:
        await sealed(database, 3)
        await AuditRetention(database, SEALING, 1).remove(MOMENT + timedelta(days=10))
        await seal(database)
        async with database.readers() as session:
            head = await read_head(session)
        assert (head.sequence, head.entries, head.unsealed) == (4, 1, 0)
