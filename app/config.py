"""Settings, read once from the environment (`MUSTER_*`) when a process starts."""

import re
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

_origin = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")


def listed(value: str) -> list[str]:
    """The parts of a setting that is a list, with commas between."""
    return [part.strip() for part in value.split(",") if part.strip()]


def each_is_a_network(value: str) -> str:
    """Addresses and networks, such as `10.0.0.5, 10.1.0.0/16`. Not `*`, with which a caller could claim any address."""
    return ",".join(str(ip_network(part)) for part in listed(value))


def each_is_an_origin(value: str) -> str:
    """Origins as browsers send them, such as `https://admin.example.com`."""
    for part in listed(value):
        if not _origin.fullmatch(part):
            raise ValueError(f"{part!r} is no origin; one looks like https://admin.example.com")
    return value


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

    # Lists, with commas between.
    trusted_proxies: Annotated[str, AfterValidator(each_is_a_network)] = ""
    allowed_hosts: str = ""
    cors_origins: Annotated[str, AfterValidator(each_is_an_origin)] = ""

    rate_limits: Literal["on", "off"] = "on"
    rate_limit_requests: int = Field(1_200, ge=1)
    rate_limit_batches: int = Field(60, ge=1)
    rate_limit_sign_ins: int = Field(10, ge=1)

    max_body_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    max_ids: int = Field(10_000, ge=1)
    plan_token_seconds: int = Field(900, ge=1)

    batch_chunk_rows: int = Field(5_000, ge=1)
    batch_connections: int = Field(8, ge=1)
    import_connections: int = Field(2, ge=1)
    deletion_connections: int = Field(4, ge=1)
    judge_processes: int = Field(1, ge=0)
    upload_dir: Path | None = None
    upload_retention_days: int = Field(7, ge=0)

    # Of operations. A server works on them too, unless it is told to leave them to `muster worker`.
    server_worker: Literal["on", "off"] = "on"
    worker_operations: int = Field(2, ge=1)
    worker_heartbeat_seconds: float = Field(15.0, gt=0)
    worker_grace_seconds: float = Field(30.0, gt=0)
    queue_dashboard: Literal["on", "off"] = "off"

    # Of connections to the servers that are registered.
    allowed_networks: Annotated[str, AfterValidator(each_is_a_network)] = ""
    denied_networks: Annotated[str, AfterValidator(each_is_a_network)] = ""
    allow_loopback: Literal["on", "off"] = "off"
    sync_tls_mode: Literal["disable", "prefer", "require", "verify-full"] = "prefer"
    tls_ca_dir: Path | None = None
    sync_connections: int = Field(10, ge=1, le=1000)
    sync_connections_per_host: int = Field(4, ge=1)
    sync_seconds: float = Field(60.0, gt=0)
    sync_connect_seconds: float = Field(10.0, gt=0)
    sync_tables: int = Field(20, ge=0, le=1000)
    sync_databases: int = Field(200, ge=1)

    # Of schedules. Every server and worker looks whether something is due; one of them starts it.
    scheduler: Literal["on", "off"] = "on"
    scheduler_seconds: float = Field(15.0, gt=0)

    audit_seal_seconds: float = Field(5.0, gt=0)
    audit_retention_days: int = Field(730, ge=0)
    operation_retention_days: int = Field(30, ge=0)
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
