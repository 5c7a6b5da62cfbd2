"""Rules as they are understood, and whom they match."""

from itertools import count
from typing import Any, NamedTuple

import pytest

from app.classifications.evaluation import AccountRights, JudgedAccount, Population, looked_at
from app.classifications.rules import MAX_CONDITIONS, MAX_DEPTH, parse
from app.errors import FieldError
from app.models.instance import DatabaseType

_numbers = count(1)


class Judged(NamedTuple):
    account: JudgedAccount
    rights: AccountRights


def account(username: str = "vera", **values: Any) -> Judged:
    rights = AccountRights(**{name: values.pop(name) for name in AccountRights._fields if name in values})
    defaults = {
        "permission_id": next(_numbers),
        "instance_id": 1,
        "db_type": DatabaseType.MYSQL,
        "is_superuser": False,
        "digest": str(rights),
    }
    return Judged(JudgedAccount(username=username, **defaults | values), rights)


def matching(rule: object, *judged: Judged) -> set[int]:
    """The places of those that match."""
    population = Population([each.account for each in judged])
    rights = {each.account.permission_id: each.rights for each in judged}
    for permission_id in population.representatives:
        population.learn(permission_id, rights[permission_id])
    return set(population.matching(parse(rule)))


def matches(rule: object, judged: Judged) -> bool:
    return matching(rule, judged) == {0}


class TestConditions:
    def test_type(self) -> None:
        rule = {"db_type_in": ["mysql", "mariadb"]}
        assert matches(rule, account())
        assert not matches(rule, account(db_type=DatabaseType.REDIS))

    @pytest.mark.parametrize("wanted", [True, False])
    def test_superuser(self, wanted: bool) -> None:
        assert matches({"is_superuser": wanted}, account(is_superuser=wanted))
        assert not matches({"is_superuser": wanted}, account(is_superuser=not wanted))

    @pytest.mark.parametrize(
        ("pattern", "name", "expected"),
        [
            ("app_*", "app_orders", True),
            ("app_*", "my_app_orders", False),
            ("app_*", "App_orders", False),
            ("app_?", "app_1", True),
            ("app_?", "app_12", False),
            ("[ab]*", "bob", True),
            ("[!ab]*", "bob", False),
            ("a.b", "axb", False),
            ("用户*", "用户甲", True),
            ("*\n*", "two\nlines", True),
        ],
    )
    def test_name(self, pattern: str, name: str, expected: bool) -> None:
        assert matches({"name_matches": pattern}, account(name)) is expected

    def test_role(self) -> None:
        judged = account(roles=("dba_readers", "staff"))
        assert matches({"has_role": "staff"}, judged)
        assert matches({"has_role": "dba*"}, judged)
        assert not matches({"has_role": "dba"}, judged)

    @pytest.mark.parametrize(
        ("condition", "expected"),
        [
            ("SELECT", True),
            ("select", True),
            ("DROP", False),
            ("RELOAD", True),
            ({"privilege": "SELECT", "on": "shop"}, True),
            ({"privilege": "SELECT", "on": "shop*"}, True),
            ({"privilege": "SELECT", "on": "bank*"}, False),
            ({"privilege": "INSERT", "on": "shop.orders"}, True),
            ({"privilege": "INSERT", "on": "shop"}, False),
            ({"privilege": "INSERT", "on": "*.orders"}, True),
            # On the server is on everything in it, and nothing less is on the server.
            ({"privilege": "RELOAD", "on": "bank.secrets"}, True),
            ({"privilege": "RELOAD", "on": "*"}, True),
            ({"privilege": "SELECT", "on": "*"}, False),
        ],
    )
    def test_privilege(self, condition: object, expected: bool) -> None:
        judged = account(
            global_privileges=("RELOAD",),
            database_privileges={"shop": ("SELECT",)},
            object_privileges={"shop.orders": ("INSERT",)},
        )
        assert matches({"has_privilege": condition}, judged) is expected


class TestCombinations:
    def test_all_any_and_not(self) -> None:
        rule = {
            "all": [
                {"db_type_in": ["mysql"]},
                {"any": [{"is_superuser": True}, {"has_role": "dba"}]},
                {"not": {"name_matches": "app_*"}},
            ]
        }
        judged = [
            account("root", is_superuser=True),
            account("vera", roles=("dba",)),
            account("app_root", is_superuser=True),
            account("bob"),
            account("root", is_superuser=True, db_type=DatabaseType.REDIS),
        ]
        assert matching(rule, *judged) == {0, 1}

    def test_equal_rights_of_different_accounts_are_told_apart_by_their_names(self) -> None:
        judged = [account("a", roles=("dba",)), account("b", roles=("dba",))]
        assert matching({"all": [{"has_role": "dba"}, {"name_matches": "b"}]}, *judged) == {1}

    def test_rights_that_several_have_are_asked_for_once(self) -> None:
        judged = [account("a", roles=("dba",)), account("b"), account("c", roles=("dba",)), account("d")]
        asked_for = Population([each.account for each in judged]).representatives
        assert asked_for == [judged[0].account.permission_id, judged[1].account.permission_id]
        assert matching({"has_role": "dba"}, *judged) == {0, 2}
        assert matching({"not": {"has_role": "dba"}}, *judged) == {1, 3}

    def test_who_holds_what_is_told_by_account(self) -> None:
        judged = [
            account("a", database_privileges={"shop": ("SELECT",), "bank": ("INSERT",)}),
            account("b", database_privileges={"bank": ("SELECT",)}),
            account("c", global_privileges=("SELECT",)),
        ]
        on_bank = {"has_privilege": {"privilege": "SELECT", "on": "bank"}}
        assert matching(on_bank, *judged) == {1, 2}
        assert matching({"has_privilege": {"privilege": "SELECT", "on": "*"}}, *judged) == {2}
        assert matching({"not": on_bank}, *judged) == {0}

    def test_what_is_named_like_the_server_is_not_the_server(self) -> None:
        judged = account(database_privileges={"*": ("SELECT",)})
        assert not matches({"has_privilege": {"privilege": "SELECT", "on": "*"}}, judged)
        assert not matches({"has_privilege": {"privilege": "SELECT", "on": "bank"}}, judged)

    def test_nobody_is_nobody(self) -> None:
        assert matching({"not": {"is_superuser": True}}) == set()


class TestLookedAt:
    @pytest.mark.parametrize(
        ("rules", "expected"),
        [
            ([{"is_superuser": True}, {"name_matches": "a"}, {"db_type_in": ["mysql"]}], ()),
            ([{"not": {"has_role": "a"}}], ("roles",)),
            (
                [{"is_superuser": True}, {"any": [{"has_privilege": "SELECT"}]}],
                ("global_privileges", "database_privileges", "object_privileges"),
            ),
            ([{"has_role": "a"}, {"has_privilege": "SELECT"}], AccountRights._fields),
        ],
    )
    def test_is_what_the_conditions_are_about(self, rules: list[object], expected: tuple[str, ...]) -> None:
        assert looked_at(map(parse, rules)) == expected


def nested(depth: int) -> dict[str, Any]:
    rule: dict[str, Any] = {"is_superuser": True}
    for _ in range(depth - 1):
        rule = {"not": rule}
    return rule


class TestRefused:
    @pytest.mark.parametrize(
        ("rule", "place"),
        [
            (None, "rule"),
            ([], "rule"),
            ({}, "rule"),
            ({"all": []}, "rule.all"),
            ({"any": {}}, "rule.any"),
            ({"all": [{"is_superuser": True}], "any": []}, "rule"),
            ({"xor": []}, "rule"),
            ({"all": [{"is_superuser": "yes"}]}, "rule.all[0].is_superuser"),
            ({"not": []}, "rule.not"),
            ({"db_type_in": []}, "rule.db_type_in"),
            ({"db_type_in": ["db2"]}, "rule.db_type_in"),
            ({"db_type_in": [["mysql"]]}, "rule.db_type_in"),
            ({"has_role": ""}, "rule.has_role"),
            ({"has_role": "x" * 256}, "rule.has_role"),
            ({"has_role": "a\x00"}, "rule.has_role"),
            ({"has_privilege": {"on": "shop"}}, "rule.has_privilege.privilege"),
            ({"has_privilege": {"privilege": "SELECT", "in": "shop"}}, "rule.has_privilege"),
            ({"has_privilege": {"privilege": "SELECT", "on": 1}}, "rule.has_privilege.on"),
            (nested(MAX_DEPTH + 1), "rule" + ".not" * MAX_DEPTH),
        ],
    )
    def test_with_its_place(self, rule: object, place: str) -> None:
        with pytest.raises(FieldError) as refused:
            parse(rule)
        assert refused.value.message.startswith((f"{place} ", f"{place}:"))

    def test_as_deep_as_may_be_is_understood(self) -> None:
        assert matches(nested(MAX_DEPTH), account(is_superuser=MAX_DEPTH % 2 == 1))

    def test_too_many_conditions(self) -> None:
        half = {"any": [{"is_superuser": True}] * (MAX_CONDITIONS // 2)}
        parse({"all": [half, half]})
        with pytest.raises(FieldError, match="at most 100 conditions, not 101"):
            parse({"all": [half, half, {"is_superuser": True}]})

    def test_a_pattern_cannot_keep_the_processor_busy(self) -> None:
        """As a regular expression this would take longer than there is time."""
        assert not matches({"name_matches": "*a" * 100 + "b"}, account("a" * 255))
