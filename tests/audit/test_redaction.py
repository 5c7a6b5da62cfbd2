"""Secrets do not reach the audit trail, even when a service hands them in."""

from typing import Any

import orjson
import pytest

from app.audit.recorder import AuditEntry, record, record_many
from app.audit.redaction import REMOVED, as_json, speaks_of_secret, without_secrets
from app.database import Database
from tests.audit.trail import newest

SECRET = "hunter2-hunter2"


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["password", "PASSWORD", "Password", "new_password", "newPassword", "passwordHash", "password2", "db.password",
         "PGPASSWORD", "passwd", "pwd", "passphrase", "secret", "client-secret", "secrets", "token", "access_token",
         "refreshToken", "tokens", "key", "api_key", "apiKey", "apikey", "APIKEY", "X-API-Key", "private",
         "private_key", "key_hash", "hashes", "cookie", "Set-Cookie", "Authorization", "signature"],
    )  # fmt: skip
    def test_that_speak_of_secrets(self, name: str) -> None:
        assert speaks_of_secret(name)

    @pytest.mark.parametrize(
        "name",
        ["", "name", "username", "host", "credential", "credential_id", "keyboard", "monkey", "tokenizer", "primary",
         "endpoint_key", "api_key_prefix", "prefix", "scopes", "before", "after", "17"],
    )  # fmt: skip
    def test_that_do_not(self, name: str) -> None:
        assert not speaks_of_secret(name)


class TestValues:
    @pytest.mark.parametrize(
        "value", [SECRET, "", [SECRET], {"is": SECRET}, (SECRET,), b"x", [{"deep": [SECRET]}]], ids=repr
    )
    def test_text_and_what_is_nested_goes(self, value: Any) -> None:
        assert without_secrets({"password": value}) == {"password": REMOVED}

    @pytest.mark.parametrize("value", [None, True, False, 3, 1.5, "changed"])
    def test_nothing_numbers_and_the_word_changed_stay(self, value: Any) -> None:
        assert without_secrets({"password": value}) == {"password": value}

    @pytest.mark.parametrize(
        "changes",
        [
            {"password": SECRET},
            {"before": {"password": None}, "after": {"password": SECRET}},
            {"after": {"options": {"apiKey": SECRET}}},
            {"after": [{"token": SECRET}]},
            {"after": ({"list": [[{"secret": SECRET}]]},)},
            {1: {"token": SECRET}},
        ],
    )
    def test_at_any_depth(self, changes: dict[Any, Any]) -> None:
        assert SECRET not in repr(without_secrets(changes))
        if 1 not in changes:
            assert SECRET not in as_json(changes)

    def test_what_is_no_secret_stays_as_it_was(self) -> None:
        changes = {
            "before": {"name": "a", "tags": ["x"], "port": 1, "credential": "ops"},
            "rows": {"api_keys": 2, "refresh_tokens": 7},
            "password": "changed",
        }
        assert without_secrets(changes) == changes
        assert orjson.loads(as_json(changes)) == changes


class TestRecorder:
    @pytest.mark.parametrize("is_bulk", [False, True])
    async def test_removes_them(self, database: Database, is_bulk: bool) -> None:
        changes = {"after": {"name": "ops", "password": SECRET, "extra": [{"token": SECRET}]}}
        entry = AuditEntry("credential:create", "credential", 1, "ops", 1, changes=changes)
        async with database.writers.begin() as session:
            await (record_many(session, [entry]) if is_bulk else record(session, entry))
        [stored] = await newest(database)
        expected = {"after": {"name": "ops", "password": REMOVED, "extra": [{"token": REMOVED}]}}
        assert stored["changes"] == expected
        assert SECRET not in repr(stored)


class TestCredentials:
    async def test_their_passwords_are_nowhere(self, client: Any, database: Database) -> None:
        body = {"name": "ops", "type": "database", "username": "u", "password": SECRET}
        made = (await client.post("/api/v1/credentials", json=body)).json()
        url = f"/api/v1/credentials/{made['id']}"
        await client.patch(url, json={"password": SECRET + "2"})
        await client.patch(url, json={"password": SECRET + "3", "type": "nonsense"})
        await client.delete(url)
        entries = await newest(database)
        assert {entry["action"] for entry in entries} >= {"credential:create", "credential:update", "credential:delete"}
        assert SECRET not in repr(entries)
