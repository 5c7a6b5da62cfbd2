"""Replacing the key that passwords are sealed with."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import select, text

from app.config import Settings
from app.credentials import repository, rotation
from app.credentials.encryption import ConfiguredKeys, KeyFile, SecretBox, SecretUnreadable
from app.credentials.records import CredentialValues
from app.credentials.rotation import RotationUnderWay, rotate_keys
from app.credentials.service import CredentialService
from app.database import Database
from app.models.audit import AuditEvent
from app.models.credential import Credential, CredentialType
from tests.factories import Registry


@pytest.fixture
def key_file(settings: Settings) -> Path:
    return settings.data_dir / "secret.key"


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "STEP_PASSWORDS", 2)


def box_of(*keys: str) -> SecretBox:
    return SecretBox(ConfiguredKeys(",".join(keys)))


def keys_in(path: Path) -> list[str]:
    return path.read_text().split()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def seal_some(registry: Registry, box: SecretBox, count: int = 5) -> dict[int, str]:
    """Credentials with passwords, by id."""
    passwords = [f"password-{number}" for number in range(count)]
    return {await registry.credential(encrypted_password=box.seal(each)): each for each in passwords}


async def opened(database: Database, box: SecretBox) -> dict[int, str]:
    statement = select(Credential.id, Credential.encrypted_password)
    async with database.readers() as session:
        rows = (await session.execute(statement)).all()
    return {credential_id: box.open(token) for credential_id, token in rows if token is not None}


class TestWithAKeyFile:
    async def test_every_password_is_sealed_with_a_new_key(
        self, settings: Settings, database: Database, registry: Registry, key_file: Path
    ) -> None:
        passwords = await seal_some(registry, SecretBox(KeyFile(key_file)))
        await registry.credential()
        (old,) = keys_in(key_file)
        assert await rotate_keys(settings, database) == 5
        (new,) = keys_in(key_file)
        assert new != old
        assert mode_of(key_file) == 0o600
        assert await opened(database, box_of(new)) == passwords

    async def test_nothing_changes_for_clients(
        self, client: httpx.AsyncClient, settings: Settings, database: Database
    ) -> None:
        body = {"name": "ops", "type": "database", "username": "x", "password": "s3cret"}
        credential = (await client.post("/api/v1/credentials", json=body)).json()
        await rotate_keys(settings, database)
        assert (await client.get(f"/api/v1/credentials/{credential['id']}")).json() == credential

    async def test_it_is_audited(
        self, settings: Settings, database: Database, registry: Registry, key_file: Path
    ) -> None:
        await seal_some(registry, SecretBox(KeyFile(key_file)), 3)
        await rotate_keys(settings, database)
        async with database.readers() as session:
            entries = (await session.execute(select(AuditEvent.action, AuditEvent.changes))).all()
        assert entries == [("credential:rotate_key", {"resealed": 3})]

    async def test_again_and_again(
        self, settings: Settings, database: Database, registry: Registry, key_file: Path
    ) -> None:
        passwords = await seal_some(registry, SecretBox(KeyFile(key_file)))
        for _ in range(3):
            assert await rotate_keys(settings, database) == 5
        assert await opened(database, SecretBox(KeyFile(key_file))) == passwords

    async def test_without_credentials(self, settings: Settings, database: Database, key_file: Path) -> None:
        (old,) = keys_in(key_file)
        assert await rotate_keys(settings, database) == 0
        assert keys_in(key_file) != [old]


class TestBrokenOff:
    @pytest.mark.parametrize("steps", [0, 1, 2])
    async def test_within_the_steps_it_goes_on_from_there(
        self,
        settings: Settings,
        database: Database,
        registry: Registry,
        key_file: Path,
        monkeypatch: pytest.MonkeyPatch,
        steps: int,
    ) -> None:
        passwords = await seal_some(registry, SecretBox(KeyFile(key_file)))
        left = steps

        async def breaks_off(session: object, token_by_id: Mapping[int, str]) -> None:
            nonlocal left
            if left == 0:
                raise ZeroDivisionError
            left -= 1
            await replace(session, token_by_id)  # type: ignore[arg-type]

        replace = repository.replace_passwords
        with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
            broken.setattr(repository, "replace_passwords", breaks_off)
            await rotate_keys(settings, database)
        between = keys_in(key_file)
        assert len(between) == 2
        assert await opened(database, SecretBox(KeyFile(key_file))) == passwords
        assert await rotate_keys(settings, database) == 5 - 2 * steps
        assert keys_in(key_file) == between[:1]
        assert await opened(database, box_of(between[0])) == passwords

    async def test_before_the_old_keys_are_dropped_only_that_is_left(
        self,
        settings: Settings,
        database: Database,
        registry: Registry,
        key_file: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        passwords = await seal_some(registry, SecretBox(KeyFile(key_file)))

        def breaks_off(_: KeyFile) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
            broken.setattr(KeyFile, "keep_newest", breaks_off)
            await rotate_keys(settings, database)
        assert len(keys_in(key_file)) == 2
        assert await rotate_keys(settings, database) == 0
        assert await opened(database, box_of(*keys_in(key_file))) == passwords
        assert len(keys_in(key_file)) == 1


class TestBesideWriters:
    async def test_a_running_server_takes_the_new_key(
        self, client: httpx.AsyncClient, settings: Settings, database: Database, key_file: Path
    ) -> None:
        body = {"name": "ops", "type": "database", "username": "x", "password": "s3cret"}
        await client.post("/api/v1/credentials", json=body)
        await rotate_keys(settings, database)
        await client.post("/api/v1/credentials", json=body | {"name": "web"})
        assert sorted((await opened(database, box_of(*keys_in(key_file)))).values()) == ["s3cret", "s3cret"]

    async def test_what_was_sealed_with_the_old_key_but_not_committed_is_not_lost(
        self, settings: Settings, database: Database, key_file: Path
    ) -> None:
        values = CredentialValues(name="ops", type=CredentialType.DATABASE, username=None, password=SecretStr("s3cret"))
        async with database.writers.begin() as session:
            await CredentialService(session, SecretBox(KeyFile(key_file))).create(None, values)
            rotating = asyncio.create_task(rotate_keys(settings, database))
            await asyncio.sleep(0.3)
            assert not rotating.done()
            assert len(keys_in(key_file)) == 2
        assert await rotating == 1
        assert list((await opened(database, box_of(*keys_in(key_file)))).values()) == ["s3cret"]

    async def test_many_at_once(
        self, client: httpx.AsyncClient, settings: Settings, database: Database, key_file: Path
    ) -> None:
        async def write(number: int) -> None:
            body = {"name": f"ops-{number}", "type": "database", "username": "x", "password": "first"}
            answer = await client.post("/api/v1/credentials", json=body)
            url = f"/api/v1/credentials/{answer.json()['id']}"
            assert (await client.patch(url, json={"password": f"password-{number}"})).status_code == 200

        async def rotate() -> None:
            for _ in range(4):
                await rotate_keys(settings, database)

        await asyncio.gather(rotate(), *(write(number) for number in range(20)))
        found = await opened(database, SecretBox(KeyFile(key_file)))
        assert sorted(found.values()) == sorted(f"password-{number}" for number in range(20))

    async def test_two_rotations_at_once_are_one(self, settings: Settings, database: Database, key_file: Path) -> None:
        with rotation._alone(key_file), pytest.raises(RotationUnderWay):
            await rotate_keys(settings, database)


class TestWithConfiguredKeys:
    async def test_the_first_key_of_the_list_is_taken(
        self, settings: Settings, database: Database, registry: Registry, key_file: Path
    ) -> None:
        old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
        passwords = await seal_some(registry, box_of(old))
        before = keys_in(key_file)
        configured = settings.model_copy(update={"secret_key": SecretStr(f"{new},{old}")})
        assert await rotate_keys(configured, database) == 5
        assert await opened(database, box_of(new)) == passwords
        assert await rotate_keys(configured, database) == 0
        assert keys_in(key_file) == before


class TestAWrongKey:
    async def test_is_told_with_the_credential_and_nothing_is_dropped(
        self, settings: Settings, database: Database, registry: Registry, key_file: Path
    ) -> None:
        passwords = await seal_some(registry, SecretBox(KeyFile(key_file)))
        stranger = box_of(Fernet.generate_key().decode()).seal("s3cret")
        credential_id = await registry.credential("foreign", encrypted_password=stranger)
        with pytest.raises(SecretUnreadable, match=rf"credential {credential_id} \('foreign'\)"):
            await rotate_keys(settings, database)
        assert len(keys_in(key_file)) == 2
        async with database.writers.begin() as session:
            await session.execute(text("DELETE FROM credentials WHERE name = 'foreign'"))
        await rotate_keys(settings, database)
        assert await opened(database, box_of(*keys_in(key_file))) == passwords
        assert len(keys_in(key_file)) == 1
