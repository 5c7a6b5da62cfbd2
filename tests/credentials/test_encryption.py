"""Sealing secrets, and the keys that it is done with."""

import io
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from app.config import Settings
from app.credentials.encryption import (
    ConfiguredKeys,
    KeyFile,
    SecretBox,
    SecretKeyRefused,
    SecretUnreadable,
    key_source,
    open_secret_box,
)
from app.logs import configure_logging
from app.main import create_app


def new_key() -> str:
    return Fernet.generate_key().decode()


def box_of(*keys: str) -> SecretBox:
    return SecretBox(ConfiguredKeys(",".join(keys)))


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


class TestBox:
    @pytest.mark.parametrize("secret", ["s3cret", "  spaces  ", "密码", "line\nline\n", "x" * 16_384])
    def test_opens_what_it_sealed(self, secret: str) -> None:
        box = box_of(new_key())
        token = box.seal(secret)
        assert secret not in token
        assert box.open(token) == secret

    def test_seals_with_the_first_key_and_opens_with_any(self) -> None:
        old, new = new_key(), new_key()
        token = box_of(old).seal("s3cret")
        both = box_of(new, old)
        assert both.open(token) == "s3cret"
        assert (both.is_newest(token), both.is_newest(both.seal("s3cret"))) == (False, True)
        assert box_of(new).open(both.reseal(token)) == "s3cret"

    def test_says_when_no_key_fits(self) -> None:
        token = box_of(new_key()).seal("s3cret")
        stranger = box_of(new_key())
        for attempt in (stranger.open, stranger.reseal):
            with pytest.raises(SecretUnreadable, match="not among the present ones"):
                attempt(token)


class TestConfiguredKeys:
    def test_are_separated_by_commas(self, tmp_path: Path) -> None:
        first, second = new_key(), new_key()
        settings = Settings(secret_key=f" {first} ,{second},", data_dir=tmp_path)
        assert key_source(settings).keys() == (first, second)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("empty", ["", "  "])
    def test_empty_is_not_set(self, tmp_path: Path, empty: str) -> None:
        assert isinstance(key_source(Settings(secret_key=empty, data_dir=tmp_path)), KeyFile)

    @pytest.mark.parametrize("bad", ["hunter2", "é", "A" * 43, "A" * 42 + "=", "A" * 87, "=" * 44])
    def test_malformed_is_refused_without_telling_it(self, tmp_path: Path, bad: str) -> None:
        settings = Settings(secret_key=f"{new_key()},{bad}", data_dir=tmp_path)
        with pytest.raises(SecretKeyRefused, match="MUSTER_SECRET_KEY: key 2 of 2 is not a Fernet key") as refusal:
            open_secret_box(settings)
        assert bad not in str(refusal.value)

    async def test_malformed_stops_the_start(self, tmp_path: Path) -> None:
        application = create_app(Settings(secret_key="hunter2", data_dir=tmp_path, log_level="WARNING"))
        with pytest.raises(SecretKeyRefused):
            async with application.router.lifespan_context(application):
                pass


class TestKeyFile:
    def test_is_made_for_its_owner_alone(self, tmp_path: Path) -> None:
        settings = Settings(data_dir=tmp_path / "new" / "data")
        token = open_secret_box(settings).seal("s3cret")
        path = settings.data_dir / "secret.key"
        assert mode_of(path) == 0o600
        assert [each.name for each in settings.data_dir.iterdir()] == ["secret.key"]
        assert open_secret_box(settings).open(token) == "s3cret"

    def test_made_at_once_by_several_is_one(self, tmp_path: Path) -> None:
        for number in range(20):
            path = tmp_path / str(number) / "secret.key"
            with ThreadPoolExecutor(8) as pool:
                keys = set(pool.map(lambda _, path=path: KeyFile(path).keys(), range(8)))
            assert len(keys) == 1

    def test_holds_one_key_a_line(self, tmp_path: Path) -> None:
        keys = (new_key(), new_key())
        path = tmp_path / "secret.key"
        path.write_text("\n".join(keys) + "\n\n")
        path.chmod(0o600)
        assert KeyFile(path).keys() == keys

    def test_changes_are_noticed(self, tmp_path: Path) -> None:
        running = SecretBox(KeyFile(tmp_path / "secret.key"))
        token = running.seal("s3cret")
        other = KeyFile(tmp_path / "secret.key")
        other.add_key()
        assert not running.is_newest(token)
        assert running.open(token) == "s3cret"
        assert running.is_newest(running.seal("s3cret"))
        assert mode_of(tmp_path / "secret.key") == 0o600
        other.keep_newest()
        with pytest.raises(SecretUnreadable):
            running.open(token)

    @pytest.mark.parametrize("content", [b"", b"\n", b"hunter2\n", b"\xff\xfe"])
    def test_malformed_is_refused_without_telling_it(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "secret.key"
        path.write_bytes(content)
        with pytest.raises(SecretKeyRefused) as refusal:
            open_secret_box(Settings(data_dir=tmp_path))
        assert str(path) in str(refusal.value)
        assert "hunter2" not in str(refusal.value)
        assert path.read_bytes() == content

    def test_that_is_gone_is_refused(self, tmp_path: Path) -> None:
        box = open_secret_box(Settings(data_dir=tmp_path))
        (tmp_path / "secret.key").unlink()
        with pytest.raises(SecretKeyRefused, match="cannot be read"):
            box.seal("s3cret")

    def test_readable_by_others_is_warned_of(self, tmp_path: Path) -> None:
        configure_logging("WARNING")
        handler = logging.getLogger().handlers[0]
        assert isinstance(handler, logging.StreamHandler)
        log = io.StringIO()
        handler.setStream(log)
        path = tmp_path / "secret.key"
        KeyFile(path)
        assert log.getvalue() == ""
        path.chmod(0o640)
        KeyFile(path)
        assert "can be read by others" in log.getvalue()
        assert "0o640" in log.getvalue()
