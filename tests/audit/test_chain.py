"""What is sealed, and in which form."""

import hmac
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.audit import chain_repository
from app.audit.chain import BEGINNING, SEALED_COLUMNS, Link, Sealing, canonical
from app.config import Settings
from app.database import Database
from tests.audit.trail import KEY, SEALING, add, events, seal

ROW = (
    1, "2026-11-22 19:36:03.120045", 1, "instance:create", "instance", 17, "pg-01 \u6570\u636e \U0001f418",
    "succeeded", "12345678123456781234567812345678", 3, "ada", "mk_abcdef", "192.0.2.7", "POST", "/api/v1/instances",
    201, 12, "abc-123",
    '{"after":{"description":null,"host":"h","port":5432,"share":0.5,"tags":["b","a"]}}',
)  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def with_value(column: str, value: object) -> tuple[object, ...]:
    row = list(ROW)
    row[SEALED_COLUMNS.index(column)] = value
    return tuple(row)


class TestCanonical:
    def test_is_a_json_array_that_begins_with_the_sequence(self) -> None:
        assert orjson.loads(canonical(5, ROW)) == [5, *ROW]

    def test_knows_every_column_but_those_of_the_seal(self) -> None:
        assert {*SEALED_COLUMNS} == set(events.c.keys()) - {"sequence", "seal"}

    async def test_is_the_same_from_both_databases(self, database: Database) -> None:
        await add(database)
        async with database.readers() as session:
            [row] = await chain_repository.unsealed(session, 2**62, 10)
        assert canonical(5, row) == canonical(5, ROW)

    @pytest.mark.parametrize("text", ['{"b": 1, "a": [1.0, 2]}', '{"a":[1.0,2],"b":1}', ' {"a" : [1.0,2] , "b":1}'])
    def test_spaces_and_order_of_names_do_not_matter(self, text: str) -> None:
        assert canonical(1, with_value("changes", text)) == canonical(1, with_value("changes", '{"a":[1.0,2],"b":1}'))

    @pytest.mark.parametrize("column", SEALED_COLUMNS)
    def test_every_column_matters(self, column: str) -> None:
        others = [None, "x", 7, 7.5, float("inf"), b"x", '{"x": 1}', '"x"', "{x"]
        found = {canonical(1, with_value(column, each)) for each in others}
        assert len(found) == len(others)

    @given(json_values)
    def test_any_json_is_the_same_however_it_is_spaced(self, value: Any) -> None:
        tight, wide = orjson.dumps(value), orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        assert canonical(1, with_value("changes", tight.decode())) == canonical(1, with_value("changes", wide.decode()))


class TestSeal:
    def test_is_an_hmac_over_the_seal_before_and_the_entry(self) -> None:
        expected = hmac.new(KEY, b"entry\n" + b"0" * 64 + b"\n" + canonical(1, ROW), "sha256").hexdigest()
        assert SEALING.seal(BEGINNING, ROW) == Link(1, expected)

    def test_depends_on_the_key_the_place_and_the_seal_before(self) -> None:
        seals = {
            SEALING.seal(BEGINNING, ROW).seal,
            Sealing(b"x" * 32).seal(BEGINNING, ROW).seal,
            SEALING.seal(Link(1, BEGINNING.seal), ROW).seal,
            SEALING.seal(Link(0, "1" * 64), ROW).seal,
        }
        assert len(seals) == 4


class TestAnchor:
    ANCHOR = SEALING.sealed_anchor(Link(7, "a" * 64), 7, "2026-11-22 19:36:03.120045")

    def test_is_genuine(self) -> None:
        assert SEALING.is_genuine(self.ANCHOR)
        assert not Sealing(b"x" * 32).is_genuine(self.ANCHOR)

    @pytest.mark.parametrize(
        "change",
        [{"end": Link(8, "a" * 64)}, {"end": Link(7, "b" * 64)}, {"removed": 6}, {"created_at": "2026-11-22"},
         {"anchor_seal": "0" * 64}, {"anchor_seal": "\u6570"}],
    )  # fmt: skip
    def test_one_that_was_changed_is_not(self, change: dict[str, Any]) -> None:
        assert not SEALING.is_genuine(replace(self.ANCHOR, **change))

    async def test_comes_back_as_it_was_stored(self, database: Database) -> None:
        async with database.writers.begin() as session:
            await chain_repository.add_anchor(session, self.ANCHOR)
        async with database.readers() as session:
            assert await chain_repository.newest_anchor(session) == self.ANCHOR


async def test_the_seal_is_what_the_sealer_stores(database: Database, settings: Settings) -> None:
    await add(database)
    await seal(database)
    async with database.readers() as session:
        [row] = await chain_repository.sealed_after(session, 0, 10)
    assert Link(row.sequence, str(row.seal)) == SEALING.seal(BEGINNING, ROW)
