from pathlib import Path

import pytest

from app.config import Settings


class TestDatabaseUrl:
    @pytest.mark.parametrize(
        ("given", "resolved"),
        [
            ("postgresql+asyncpg://u:p@db/muster", "postgresql+asyncpg://u:p@db/muster"),
            ("postgresql://u:p@db/muster", "postgresql+asyncpg://u:p@db/muster"),
            ("postgres://u:p@db/muster", "postgresql+asyncpg://u:p@db/muster"),
            ("sqlite:////var/lib/muster.db", "sqlite+aiosqlite:////var/lib/muster.db"),
            ("sqlite+aiosqlite:///muster.db", "sqlite+aiosqlite:///muster.db"),
        ],
    )
    def test_the_forms_that_people_paste_mean_the_async_drivers(self, given: str, resolved: str) -> None:
        assert Settings(database_url=given).resolved_database_url == resolved

    def test_by_default_it_is_a_file_in_the_data_directory(self) -> None:
        settings = Settings(database_url=None, data_dir=Path("/var/lib/muster"))
        assert settings.resolved_database_url == "sqlite+aiosqlite:////var/lib/muster/muster.db"

    def test_a_password_is_not_shown(self) -> None:
        assert "hunter2" not in repr(Settings(database_url="postgresql://u:hunter2@db/muster"))


class TestEnvironment:
    def test_settings_come_from_muster_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MUSTER_POOL_SIZE", "7")
        monkeypatch.setenv("MUSTER_DATA_DIR", "/srv/muster")
        settings = Settings()
        assert settings.pool_size == 7
        assert settings.data_dir == Path("/srv/muster")
