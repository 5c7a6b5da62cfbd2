"""What a server's registered place becomes before an adapter connects to it."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from app.config import Settings
from app.credentials.sign_ins import SignIn
from app.models.instance import DatabaseType, TlsMode
from app.syncs.addresses import AddressPolicy
from app.syncs.failures import FailureKind, ServerFailure
from app.syncs.targets import ServerPlace, Targets

SIGN_IN = SignIn("app", SecretStr("s3cret"))
PLACE = ServerPlace(DatabaseType.POSTGRESQL, "10.0.0.1", 5432, "shop")


def targets(**changes: object) -> Targets:
    settings = Settings(**changes)  # type: ignore[arg-type]
    return Targets(settings, AddressPolicy(settings))


class TestTarget:
    async def test_of_a_place(self) -> None:
        target = await targets(sync_seconds=40, sync_connect_seconds=7, sync_databases=3).of(PLACE, SIGN_IN)
        assert (target.db_type, target.host, target.port, target.database_name) == (
            DatabaseType.POSTGRESQL, "10.0.0.1", 5432, "shop",
        )  # fmt: skip
        assert target.addresses == ("10.0.0.1",)
        assert (target.username, target.password.get_secret_value()) == ("app", "s3cret")
        assert (target.statement_seconds, target.connect_seconds, target.max_databases) == (40, 7, 3)
        assert "s3cret" not in repr(target)

    async def test_of_a_place_that_is_not_allowed(self) -> None:
        with pytest.raises(ServerFailure) as raised:
            await targets().of(ServerPlace(DatabaseType.REDIS, "169.254.169.254", 6379), SIGN_IN)
        assert raised.value.kind is FailureKind.ADDRESS_DENIED


class TestTls:
    async def test_is_the_configured_one_unless_the_place_says_otherwise(self) -> None:
        configured = targets(sync_tls_mode="require")
        assert (await configured.of(PLACE, SIGN_IN)).tls_mode is TlsMode.REQUIRE
        own = ServerPlace(DatabaseType.REDIS, "10.0.0.1", 6379, tls_mode=TlsMode.VERIFY_FULL)
        assert (await configured.of(own, SIGN_IN)).tls_mode is TlsMode.VERIFY_FULL

    async def test_takes_a_file_of_the_directory(self, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("")
        place = ServerPlace(DatabaseType.REDIS, "10.0.0.1", 6379, tls_ca_file="ca.pem")
        assert (await targets(tls_ca_dir=tmp_path).of(place, SIGN_IN)).tls_ca_file == tmp_path / "ca.pem"

    @pytest.mark.parametrize(
        "name",
        [
            "missing.pem",
            "../secret.pem",
            "/etc/passwd",
            "sub/ca.pem",
            "..",
            ".",
            "",
            "a\\b",
            "\0",
            "中" * 255,
            "\ud800",
        ],
    )
    async def test_takes_no_other_file(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "authorities" / "sub").mkdir(parents=True)
        for path in ("secret.pem", "authorities/sub/ca.pem", "authorities/a\\b", "authorities/ca.pem"):
            (tmp_path / path).write_text("")
        place = ServerPlace(DatabaseType.REDIS, "10.0.0.1", 6379, tls_ca_file=name)
        with pytest.raises(ServerFailure) as raised:
            await targets(tls_ca_dir=tmp_path / "authorities").of(place, SIGN_IN)
        assert raised.value.kind is FailureKind.TLS

    async def test_takes_no_file_without_a_directory(self) -> None:
        place = ServerPlace(DatabaseType.REDIS, "10.0.0.1", 6379, tls_ca_file="ca.pem")
        with pytest.raises(ServerFailure, match=r"ca\.pem") as raised:
            await targets().of(place, SIGN_IN)
        assert "MUSTER_TLS_CA_DIR" in raised.value.hint
