"""Settings, read once from the environment (`MUSTER_*`) when a process starts."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Everything an operator can set. The README lists each variable with its meaning."""

    model_config = SettingsConfigDict(env_prefix="MUSTER_", extra="ignore", frozen=True)

    database_url: SecretStr | None = None
    data_dir: Path = Path("data")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    log_level: str = "INFO"

    pool_size: int = Field(20, ge=1)
    pool_max_overflow: int = Field(20, ge=0)
    pool_recycle_seconds: int = Field(3600, ge=1)
    pool_timeout_seconds: float = Field(30.0, gt=0)
    connect_timeout_seconds: float = Field(10.0, gt=0)

    secret_key: SecretStr | None = None
    token_key: SecretStr | None = None
    audit_key: SecretStr | None = None

    admin_password: SecretStr | None = None
    access_token_seconds: int = Field(900, ge=1)
    refresh_token_seconds: int = Field(7 * 24 * 3600, ge=1)

    trusted_proxies: str = ""
    allowed_hosts: str = "*"
    cors_origins: str = ""
    rate_limits: Literal["on", "off"] = "on"

    max_body_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    max_ids: int = Field(10_000, ge=1)
    plan_token_seconds: int = Field(900, ge=1)

    batch_chunk_rows: int = Field(5_000, ge=1)
    batch_connections: int = Field(8, ge=1)
    import_connections: int = Field(2, ge=1)
    deletion_connections: int = Field(4, ge=1)
    judge_processes: int = Field(1, ge=0)

    statistics_retention_days: int = Field(400, ge=0)
    retention_interval_seconds: int = Field(6 * 3600, ge=1)

    @cached_property
    def resolved_database_url(self) -> str:
        """The async URL to connect to: the configured one, or the embedded SQLite file in the data directory."""
        if self.database_url is None:
            return f"sqlite+aiosqlite:///{self.data_dir / 'muster.db'}"
        url = self.database_url.get_secret_value()
        # SQLAlchemy 2.1 reads a bare postgresql:// as psycopg; people paste the bare form.
        for bare in ("postgres://", "postgresql://"):
            if url.startswith(bare):
                return "postgresql+asyncpg://" + url.removeprefix(bare)
        if url.startswith("sqlite://"):
            return "sqlite+aiosqlite://" + url.removeprefix("sqlite://")
        return url
