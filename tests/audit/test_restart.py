"""A chain that goes on under a new key when the old one is lost, and what somebody without a key can make of that."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from app.audit import chain_repository
from app.audit import restart as restart_module
from app.audit.chain import Anchor, Link, Sealing
from app.audit.chain_repository import add_anchor, newest_anchor, stored_now
from app.audit.head import read_head
from app.audit.restart import AuditRestart, RestartRefused
from app.audit.retention import AuditRetention
from app.audit.sealer import AuditSealer, SealingRefused
from app.audit.verification import AuditVerifier, Verification
from app.database import Database
from tests.audit.trail import FULL, MOMENT, SEALING, add, count, events, kinds, newest, places, sealed, tamper, verify

NEW = Sealing(b"n" * 32)
THIRD = Sealing(b"t" * 32)
LATER = MOMENT + timedelta(days=1000)


async def restarted(database: Database, sealing: Sealing = NEW) -> Anchor:
    return await AuditRestart(database, sealing).restart("the disk with the key broke")


async def seal(database: Database, sealing: Sealing = NEW) -> int:
    return await AuditSealer(database, sealing).seal()


async def check(database: Database, head: Link | None = None, sealing: Sealing = NEW) -> Verification:
    return await AuditVerifier(database, sealing).verify(head)


async def head_of(database: Database) -> Link:
    async with database.readers() as session:
        head = await read_head(session)
    return Link(head.sequence, head.seal)


async def lost(database: Database) -> None:
    """Five entries of a key that is lost, then a restart with its own entry and two more: 6 to 8."""
    await sealed(database, 5)
    await restarted(database)
    await add(database, 2)
    assert await seal(database) == 3


class TestRestart:
    async def test_what_is_sealed_since_is_verified(self, database: Database) -> None:
        await lost(database)
        found = await check(database)
        assert (found.findings, found.entries, found.unverifiable) == ([], 3, 5)
        assert found.restart is not None
        assert found.restart.end.sequence == 5
        assert [sequence for _, sequence in await places(database)] == [*range(1, 9)]

    async def test_is_recorded_with_its_reason(self, database: Database) -> None:
        await sealed(database, 2)
        await restarted(database)
        [entry] = await newest(database, action="audit:restart")
        assert entry["changes"] == {
            "reason": "the disk with the key broke", "unverifiable_entries": 2, "up_to_sequence": 2,
        }  # fmt: skip

    async def test_entries_that_waited_for_the_key_are_sealed(self, database: Database) -> None:
        await sealed(database, 2)
        await add(database, 3)
        with pytest.raises(SealingRefused):
            await seal(database)
        await restarted(database)
        assert await seal(database) == 4
        found = await check(database)
        assert (found.findings, found.entries, found.unverifiable) == ([], 4, 2)

    async def test_again_when_the_next_key_is_lost_too(self, database: Database) -> None:
        await lost(database)
        await restarted(database, THIRD)
        await seal(database, THIRD)
        found = await check(database, sealing=THIRD)
        assert (found.findings, found.entries, found.unverifiable) == ([], 1, 8)

    async def test_behind_what_retention_has_removed(self, database: Database) -> None:
        await sealed(database, 3)
        assert await AuditRetention(database, SEALING, 30).remove(LATER) == 3
        anchor = await restarted(database)
        assert (anchor.end.sequence, anchor.unverifiable) == (3, 0)
        assert await seal(database) == 2
        found = await check(database)
        assert (found.findings, found.entries, found.unverifiable) == ([], 2, 0)

    async def test_the_old_key_found_again_still_verifies_the_old_entries(self, database: Database) -> None:
        await lost(database)
        assert kinds(await verify(database)) == [("anchor", 5), ("changed", 6), ("changed", 7), ("changed", 8)]


class TestRefusal:
    async def test_with_nothing_sealed(self, database: Database) -> None:
        await add(database)
        with pytest.raises(RestartRefused, match="nothing has been sealed"):
            await restarted(database)

    async def test_with_the_key_of_the_chain(self, database: Database) -> None:
        await sealed(database, 2)
        with pytest.raises(RestartRefused, match="with the present key"):
            await restarted(database, SEALING)
        assert await count(database, "audit_anchors") == 1
        assert await newest(database, action="audit:restart") == []

    @pytest.mark.parametrize("entries", [1, 5])
    async def test_with_the_key_of_the_chain_behind_a_broken_anchor(
        self, database: Database, monkeypatch: pytest.MonkeyPatch, entries: int
    ) -> None:
        """Otherwise whoever has changed an entry would break the anchor, and be helped to hide it."""
        monkeypatch.setattr(restart_module, "TRIED_ENTRIES", 3)
        await sealed(database, entries)
        await tamper(database, "UPDATE audit_anchors SET removed = 7")
        with pytest.raises(RestartRefused, match="tampered"):
            await restarted(database, SEALING)

    async def test_twice(self, database: Database) -> None:
        await sealed(database, 2)
        await restarted(database)
        with pytest.raises(RestartRefused):
            await restarted(database)


class TestTampering:
    """By somebody with the database and without the key."""

    @pytest.mark.parametrize("unverifiable", [4, None])
    async def test_a_restart_that_was_made_without_the_key(self, database: Database, unverifiable: int | None) -> None:
        """To hide that entry 3 was changed."""
        await sealed(database, 4)
        await tamper(database, "UPDATE audit_events SET actor_name = 'eve' WHERE sequence = 3")
        end, guess = await head_of(database), Sealing(b"a guess")
        forged = (
            guess.sealed_anchor(end, 0, stored_now())
            if unverifiable is None
            else guess.sealed_restart(end, unverifiable, stored_now())
        )
        async with database.writers.begin() as session:
            await add_anchor(session, forged)
        found = await verify(database)
        assert kinds(found) == [("anchor", 4), ("changed", 3)]
        assert (found.restart, found.unverifiable) == (None, 0)

    async def test_an_anchor_that_was_made_a_restart(self, database: Database) -> None:
        await sealed(database, 4)
        await tamper(database, "UPDATE audit_anchors SET unverifiable = 0")
        assert kinds(await verify(database)) == [("anchor", 0)]

    @pytest.mark.parametrize(
        "change",
        ["sequence = 6", "removed = 1", "created_at = '2020-01-01 00\\:00\\:00+00'", "unverifiable = 4",
         "unverifiable = NULL", f"seal = '{'0' * 64}'", f"anchor_seal = '{'0' * 64}'"],
    )  # fmt: skip
    async def test_a_restart_that_was_changed(self, database: Database, change: str) -> None:
        await lost(database)
        await tamper(database, f"UPDATE audit_anchors SET {change} WHERE sequence = 5")
        assert "anchor" in {kind for kind, _ in kinds(await check(database))}
        await add(database)
        with pytest.raises(SealingRefused):
            await seal(database)

    async def test_a_restart_that_was_taken_away(self, database: Database) -> None:
        await lost(database)
        await tamper(database, "DELETE FROM audit_anchors WHERE sequence = 5")
        assert "anchor" in {kind for kind, _ in kinds(await check(database))}

    @pytest.mark.parametrize(
        ("statement", "expected"),
        [
            ("UPDATE audit_events SET actor_name = 'eve' WHERE sequence = 7", [("changed", 7)]),
            ("DELETE FROM audit_events WHERE sequence = 6", [("missing", 6)]),
            ("DELETE FROM audit_events WHERE sequence = 7", [("missing", 7)]),
            ("DELETE FROM audit_events WHERE sequence = 2", [("missing", 5)]),
            ("UPDATE audit_events SET sequence = -7 WHERE sequence = 7", [("inserted", 5), ("missing", 7)]),
        ],
    )
    async def test_entries(self, database: Database, statement: str, expected: list[tuple[str, int]]) -> None:
        await lost(database)
        await tamper(database, statement)
        assert kinds(await check(database)) == expected

    async def test_an_entry_that_was_put_before_the_restart(self, database: Database) -> None:
        await lost(database)
        async with database.engine.begin() as connection:
            await connection.execute(insert(events).values(**FULL | {"seal": "f" * 64, "sequence": -1}))
        assert kinds(await check(database)) == [("inserted", 5)]

    async def test_an_anchor_that_was_moved_up_does_not_hold_the_next_chain_below_it(self, database: Database) -> None:
        await sealed(database, 2)
        await tamper(database, "UPDATE audit_anchors SET sequence = 1000")
        anchor = await restarted(database)
        assert (anchor.end.sequence, anchor.unverifiable) == (1000, 2)
        await seal(database)
        assert [sequence for _, sequence in await places(database)] == [1, 2, 1001]
        assert kinds(await check(database)) == []

    async def test_the_newest_ones_cut_off_are_found_by_a_head(self, database: Database) -> None:
        await lost(database)
        head = await head_of(database)
        await tamper(database, "DELETE FROM audit_events WHERE sequence > 6")
        assert kinds(await check(database, head)) == [("cut_off", 8)]

    async def test_those_that_were_cut_off_before_the_restart_too(self, database: Database) -> None:
        await sealed(database, 4)
        head = await head_of(database)
        await tamper(database, "DELETE FROM audit_events WHERE sequence > 2")
        await restarted(database)
        await add(database, 5)
        await seal(database)
        assert kinds(await check(database, head)) == [("cut_off", 4)]


class TestHead:
    async def test_from_the_end_of_the_old_chain(self, database: Database) -> None:
        await sealed(database, 3)
        head = await head_of(database)
        await restarted(database)
        await seal(database)
        assert kinds(await check(database, head)) == []
        assert kinds(await check(database, Link(3, "0" * 64))) == [("cut_off", 3)]

    async def test_from_before_tells_nothing(self, database: Database) -> None:
        await sealed(database, 3)
        head = await head_of(database)
        await sealed(database, 2)
        await restarted(database)
        found = await check(database, head)
        assert (found.findings, found.is_exported_gone) == ([], True)

    async def test_counts_what_was_sealed_since(self, database: Database) -> None:
        await lost(database)
        async with database.readers() as session:
            head = await read_head(session)
        assert (head.sequence, head.entries, head.unsealed) == (8, 3, 0)


class TestRetention:
    async def test_removes_what_cannot_be_verified_first(self, database: Database) -> None:
        await add(database, 3, occurred_at=LATER - timedelta(days=40))
        await add(database, 2, occurred_at=LATER - timedelta(days=20))
        await seal(database, SEALING)
        before = await restarted(database)
        await add(database, 2, occurred_at=LATER - timedelta(days=10))
        # Its moment is that of the test.
        await tamper(database, "DELETE FROM audit_events WHERE action = 'audit:restart'")
        await seal(database)
        retention = AuditRetention(database, NEW, 30)
        assert await retention.remove(LATER) == 3
        assert await retention.remove(LATER) == 0
        found = await check(database)
        assert (found.findings, found.unverifiable, found.entries) == ([], 2, 2)
        assert found.restart is not None
        assert found.restart.created_at == before.created_at
        assert await retention.remove(LATER + timedelta(days=15)) == 2
        assert await retention.remove(LATER + timedelta(days=25)) == 2
        await seal(database)
        found = await check(database)
        assert (found.findings, found.unverifiable, found.start.sequence, found.removed) == ([], 0, 7, 2)

    async def test_hides_nothing_that_went_by_other_ways(self, database: Database) -> None:
        await lost(database)
        await tamper(database, "DELETE FROM audit_events WHERE sequence = 2")
        await AuditRetention(database, NEW, 30).remove(LATER)
        assert kinds(await check(database)) == [("missing", 5)]

    async def test_beside_a_check_is_no_finding(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        await lost(database)
        real = chain_repository.count_sealed

        async def removing(session: Any, end: int) -> int:
            monkeypatch.setattr(chain_repository, "count_sealed", real)
            await AuditRetention(database, NEW, 30).remove(LATER)
            return await real(session, end)

        monkeypatch.setattr(chain_repository, "count_sealed", removing)
        found = await check(database)
        assert found.findings == []


class TestOldSeals:
    async def test_an_anchor_without_a_restart_is_sealed_as_ever(self, database: Database) -> None:
        """The chains of released versions go on."""
        anchor = SEALING.sealed_anchor(Link(3, "a" * 64), 3, "2026-11-22 19:36:03.000000")
        assert anchor.anchor_seal == "32fce328d486220926ee1cbab5b57ca5dc22f2cbc9b198b91fc5b9897f4ab0b2"
        async with database.writers.begin() as session:
            await add_anchor(session, anchor)
        async with database.readers() as session:
            assert await newest_anchor(session) == anchor
