"""Names that servers have and databases do not take as they are."""

import pytest

from app.database import Database
from app.inventory.records import FoundDatabase, FoundPermissions, SyncCounts
from app.inventory.stored_text import canonical_json, digest_of, stored_name
from tests.factories import Registry
from tests.inventory.syncing import (
    SECOND,
    THIRD,
    account,
    accounts,
    logs,
    rows,
    snapshots,
    sync_accounts,
    sync_databases,
    sync_settings,
)

ODD = [
    "o'brien",
    'say "hi"',
    "back\\slash",
    "`tick`; DROP TABLE users; --",
    "🦣🦣🦣",
    "数据库" * 21 + "库",
    "new\nline\ttab",
    "per%cent_under",
    " spaces ",
    ":colon {brace} $1 ?",
    "é",
    "e\u0301",
    "\u202eright",
    "",
]
UNSTORABLE = {"nul\x00here": "nul\ufffdhere", "half\ud83dpair": "half\ufffdpair"}


class TestNames:
    @pytest.mark.parametrize("name", ODD)
    async def test_are_kept(self, database: Database, registry: Registry, name: str) -> None:
        instance = await registry.instance()
        rights = FoundPermissions(roles=[name], object_privileges={name: ["SELECT"]})
        found = account(name, name, rights=rights, attributes={name: name})
        await sync_accounts(database, instance, found)
        assert await sync_accounts(database, instance, found, at=SECOND) == SyncCounts(found=1, unchanged=1)
        [stored] = (await accounts(database, instance)).values()
        assert (stored["username"], stored["host"], stored["attributes"]) == (name, name, {name: name})
        [snapshot] = (await snapshots(database, instance)).values()
        assert (snapshot["roles"], snapshot["object_privileges"]) == ([name], {name: ["SELECT"]})
        # And changed by id, which goes another way into the database.
        changed = account(name, name, attributes={name: [name]})
        assert (await sync_accounts(database, instance, changed, at=THIRD)).updated == 1
        [stored] = (await accounts(database, instance)).values()
        assert stored["attributes"] == {name: [name]}
        assert [username for _, username, _ in await logs(database, instance)] == [name, name]

    @pytest.mark.parametrize(("name", "stored"), UNSTORABLE.items())
    async def test_that_cannot_be_stored_are_nearly_kept(
        self, database: Database, registry: Registry, name: str, stored: str
    ) -> None:
        instance = await registry.instance()
        await sync_accounts(database, instance, account("bob"))
        rights = FoundPermissions([name], [name], {name: [name]}, {name: [name]}, [f"{name}: {name}"])
        found = account(name, name, rights=rights, authentication_method=name, attributes={name: [name, {name: name}]})
        await sync_accounts(database, instance, account("bob"), found, at=SECOND)
        again = await sync_accounts(database, instance, account("bob"), found, at=THIRD)
        assert again == SyncCounts(found=2, unchanged=2)
        row = (await accounts(database, instance))[stored, stored]
        assert row["attributes"] == {stored: [stored, {stored: stored}]}
        assert row["authentication_method"] == stored
        assert (await snapshots(database, instance))[row["id"]]["object_privileges"] == {stored: [stored]}
        [(_, username, diff)] = await logs(database, instance)
        assert username == stored and f"+ {stored} on {stored}" in diff

    async def test_of_databases_and_settings(self, database: Database, registry: Registry) -> None:
        instance = await registry.instance()
        names = [*ODD, *UNSTORABLE, "x" * 300]
        found = [FoundDatabase(name, owner=name, character_set_name=name, collation_name=name) for name in names]
        settings = {name: name for name in names}
        assert (await sync_databases(database, instance, *found)).created == len(names)
        assert (await sync_settings(database, instance, settings)).created == len(names)
        assert (await sync_databases(database, instance, *found, at=SECOND)).unchanged == len(names)
        assert (await sync_settings(database, instance, settings, at=SECOND)).unchanged == len(names)
        stored = {row["name"]: row for row in await rows(database, "instance_databases", instance)}
        assert stored["o'brien"]["owner"] == "o'brien" and "nul\ufffdhere" in stored
        changed = [FoundDatabase(name, owner="x" * 300) for name in names]
        assert (await sync_databases(database, instance, *changed, at=THIRD)).updated == len(names)


class TestLongNames:
    async def test_stay_apart(self, database: Database, registry: Registry) -> None:
        instance = await registry.instance()
        names = ["x" * 255, "x" * 256, "x" * 256 + "y", "🦣" * 300, "\ud800" * 300]
        found = [account(name, name) for name in names]
        assert (await sync_accounts(database, instance, *found)).created == len(names)
        assert (await sync_accounts(database, instance, *found, at=SECOND)).unchanged == len(names)
        assert {len(name) for name, _ in await accounts(database, instance)} == {255}
        assert ("x" * 255, "x" * 255) in await accounts(database, instance)

    def test_end_in_a_digest(self) -> None:
        assert stored_name("x" * 255, 255) == "x" * 255
        cut = stored_name("x" * 256, 255)
        assert cut.startswith("x" * 238 + "…") and len(cut) == 255


class TestCanonicalJson:
    def test_is_the_same_for_the_same_value(self) -> None:
        assert canonical_json({"b": (1, 2), "a": {"d": 1, "c": None}}) == b'{"a":{"c":null,"d":1},"b":[1,2]}'
        assert canonical_json({"a": {"c": None, "d": 1}, "b": [1, 2]}) == b'{"a":{"c":null,"d":1},"b":[1,2]}'

    def test_takes_what_json_has_no_form_for(self) -> None:
        value = {1: 2**70, "set": {"b", "a"}, "half\ud800": b"\x00", "nul": ["\x00"], "range": range(2)}
        assert (
            canonical_json(value)
            == (
                '{"1":"1180591620717411303424","half\ufffd":"b\'\\\\x00\'","nul":["\ufffd"],"range":[0,1],"set":["a","b"]}'
            ).encode()
        )

    def test_a_backslash_is_not_a_nul(self) -> None:
        assert canonical_json({"a": "\\u0000"}) == b'{"a":"\\\\u0000"}'

    def test_digest(self) -> None:
        assert digest_of(b"{}") == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
