"""What an entry of the change log says, for readers and for programs."""

from datetime import UTC, datetime

import orjson

from app.inventory.account_changes import (
    MAX_DIFF_LINES,
    AccountChange,
    AttributeChange,
    beyond,
    changed_attributes,
)
from app.models.inventory import AccountChangeType


def change(**values: object) -> AccountChange:
    return AccountChange(AccountChangeType.PRIVILEGES_CHANGED, "alice", "", **values)  # type: ignore[arg-type]


class TestDiff:
    def test_has_a_line_for_each_right(self) -> None:
        given = {"object_privileges": {"shop.orders": ["INSERT", "SELECT"]}}
        assert change(given=given).diff == "+ INSERT on shop.orders\n+ SELECT on shop.orders"

    def test_of_grantable_rights(self) -> None:
        given = {"grantable_privileges": ["*: CREATE USER", "db.a: b.c: SELECT", "odd"]}
        assert change(given=given).diff.split("\n") == [
            "CREATE USER on the server: grantable",
            "SELECT on db.a: b.c: grantable",
            "odd: grantable",
        ]

    def test_names_cannot_forge_lines(self) -> None:
        given = {"roles": ["a\n- role b", "c\rd", "e\u2028f", "g\x85h", "i\x1b[31m"]}
        assert change(given=given).diff.split("\n") == [
            "+ role a\\n- role b",
            "+ role c\\rd",
            "+ role e\\u2028f",
            "+ role g\\x85h",
            "+ role i\\x1b[31m",
        ]

    def test_is_cut_and_says_so(self) -> None:
        objects = {f"shop.t{number:05}": ["SELECT"] for number in range(10_000)}
        lines = change(given={"object_privileges": objects}).diff.split("\n")
        assert len(lines) == MAX_DIFF_LINES + 1
        assert lines[-1] == "… and 9000 more"

    def test_shows_values_as_a_reader_would_write_them(self) -> None:
        moment = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
        changed = {
            "flag": AttributeChange(True, False),
            "moment": AttributeChange(None, moment),
            "number": AttributeChange(1, 2.5),
            "text": AttributeChange("a", "b" * 300),
            "object": AttributeChange({"a": 1}, ["é"]),
        }
        assert change(changed=changed).diff.split("\n") == [
            "flag: yes -> no",
            "moment: none -> 2027-01-02 03:04:05 UTC",
            "number: 1 -> 2.5",
            f"text: a -> {'b' * 200}…",
            'object: {"a":1} -> ["é"]',
        ]


class TestJson:
    def test_leaves_out_what_is_empty(self) -> None:
        assert change().as_json == b"{}"
        changed = {"moment": AttributeChange(None, datetime(2027, 1, 1, tzinfo=UTC))}
        assert orjson.loads(change(taken={"roles": ["dba"]}, changed=changed).as_json) == {
            "taken": {"roles": ["dba"]},
            "changed": {"moment": {"before": None, "after": "2027-01-01T00:00:00Z"}},
        }


class TestBeyond:
    def test_nothing(self) -> None:
        rights = {"roles": ["a"], "object_privileges": {"x": ["SELECT"]}}
        assert beyond(rights, rights) == {}
        assert beyond({}, rights) == {}

    def test_is_of_each_object(self) -> None:
        some = {"object_privileges": {"x": ["INSERT", "SELECT"], "y": ["SELECT"], "z": []}}
        others = {"object_privileges": {"x": ["SELECT"], "w": ["DELETE"]}}
        assert beyond(some, others) == {"object_privileges": {"x": ["INSERT"], "y": ["SELECT"]}}

    def test_order_and_repetition_are_no_difference(self) -> None:
        assert beyond({"roles": ["b", "a", "a"]}, {"roles": ["a", "b"]}) == {}

    def test_what_was_never_read_is_nothing(self) -> None:
        assert beyond({"roles": ["a"], "object_privileges": {"x": ["SELECT"]}}, {"roles": None}) == {  # type: ignore[dict-item]
            "roles": ["a"],
            "object_privileges": {"x": ["SELECT"]},
        }


class TestAttributes:
    def test_what_a_side_lacks_is_none(self) -> None:
        assert changed_attributes({"a": 1, "b": 2, "c": None}, {"b": 3, "d": 4}) == {
            "a": AttributeChange(1, None),
            "b": AttributeChange(2, 3),
            "d": AttributeChange(None, 4),
        }
