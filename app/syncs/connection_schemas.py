"""Bodies of the calls about connections."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

from app.errors import FieldError
from app.fields import ResourceId
from app.instances.fields import DEFAULT_PORT_BY_TYPE
from app.instances.schemas import DatabaseName, DatabaseTypeField, Host, Port, TlsCaFile, TlsModeField
from app.syncs.connection_records import ConnectionQuality, ConnectionReport
from app.syncs.connection_tests import MAX_TESTED_IDS
from app.syncs.targets import ServerPlace

Username = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00]*$")]
Password = Annotated[SecretStr, Field(max_length=1024, description="Goes to the server, and is kept nowhere")]


class ConnectionParameters(BaseModel):
    """Where a server is, and what to sign in with: a stored credential, or a user name and a password."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"db_type": "mysql", "host": "orders-02.db.example", "credential_id": 1},
                {
                    "db_type": "postgresql",
                    "host": "orders-01.db.example",
                    "port": 5432,
                    "database_name": "orders",
                    "username": "muster",
                    "password": "a-password",
                    "tls_mode": "require",
                },
            ]
        },
    )

    db_type: DatabaseTypeField
    host: Host
    port: Port = None
    database_name: DatabaseName = None
    tls_mode: TlsModeField = None
    tls_ca_file: TlsCaFile = None
    credential_id: ResourceId | None = None
    username: Username | None = None
    password: Password | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.credential_id is None) == (self.username is None and self.password is None):
            raise FieldError("required", "name credential_id, or username and password, one of the two")
        return self

    def place(self) -> ServerPlace:
        port = DEFAULT_PORT_BY_TYPE[self.db_type] if self.port is None else self.port
        return ServerPlace(self.db_type, self.host, port, self.database_name, self.tls_mode, self.tls_ca_file)


class BatchTest(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"instance_ids": [1, 2]}]})

    instance_ids: Annotated[
        list[ResourceId], Field(min_length=1, max_length=MAX_TESTED_IDS, description="Repeated ids count once")
    ]


class ConnectionFailure(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    kind: str = Field(
        description="`name_not_found`, `address_denied`, `refused`, `timed_out`, `closed`, `tls`, `protocol`, "
        "`sign_in_refused`, `database_missing`, `permission_missing`, `server_error`, `driver_missing` or "
        "`credential_unreadable`"
    )
    message: str = Field(description="What the server or the system said, without secrets")
    hint: str = Field(description="What to look at")
    server_code: str | None = Field(description="SQLSTATE or the server's error number")


class ConnectionTest(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"ok": True, "version": "PostgreSQL 18.1", "round_trip_ms": 0.42, "failure": None},
                {
                    "ok": False,
                    "version": None,
                    "round_trip_ms": None,
                    "failure": {
                        "kind": "refused",
                        "message": "nobody listens at 10.0.0.7:5432",
                        "hint": "look whether the server runs, and at its port",
                        "server_code": None,
                    },
                },
            ]
        }
    )

    ok: bool
    version: str | None = Field(description="The server's own")
    round_trip_ms: float | None = Field(description="Of one trivial question, once signed in")
    failure: ConnectionFailure | None

    @classmethod
    def of(cls, report: ConnectionReport) -> Self:
        failure = None if report.failure is None else ConnectionFailure.model_validate(report.failure)
        return cls(ok=failure is None, version=report.version, round_trip_ms=report.round_trip_ms, failure=failure)


class ConnectionStatus(BaseModel):
    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "status": "good",
                    "last_connected_at": "2026-11-22T10:00:00Z",
                    "version": "PostgreSQL 18.1",
                    "unreachable_since": None,
                }
            ]
        },
    )

    status: ConnectionQuality = Field(
        description="`good`: signed in within an hour; `stale`: within a day; `poor`: longer ago; `unknown`: never"
    )
    last_connected_at: datetime | None
    version: str | None = Field(description="The server's own, as last seen")
    unreachable_since: datetime | None = Field(description="Since when tests and syncs do not reach the endpoint")
