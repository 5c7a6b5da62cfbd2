"""The Oracle adapter against recorded rows and a small listener: no Oracle Database is in the test run."""

import asyncio
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import oracledb
import pytest
from oracledb.errors import _Error

from app.capacity.records import DatabaseSize, TableSize
from app.inventory.records import FoundAccount, FoundDatabase, OracleMember
from app.models.instance import DatabaseType, TlsMode
from app.syncs.adapters import oracle_catalogue as catalogue
from app.syncs.adapters.oracle import OracleSession, adapter
from app.syncs.adapters.oracle_connection import parameters
from app.syncs.adapters.oracle_failures import driver_failure
from app.syncs.adapters.oracle_loop import ConnectionLoop
from app.syncs.adapters.question import Question
from app.syncs.adapters.registry import adapter_of
from app.syncs.failures import FailureKind, ServerFailure
from tests.postgres_server import free_port
from tests.syncs.adapters.recorded import HOST, PASSWORD, RecordedRows, Rows, a_target
from tests.syncs.adapters.recorded_wire import closing, garbage, listener, listening, redirect, refuse, silent
from tests.syncs.certificates import CertificateAuthority

# As drivers hand dates over that have no zone.
CREATED = datetime(2025, 3, 1, 12, 30)  # noqa: DTZ001
EXPIRES = datetime(2026, 3, 1, 12, 30)  # noqa: DTZ001
GRANTED: Mapping[Question[Any], Rows | ServerFailure] = {
    catalogue.USERS: [
        ("SYS", "OPEN", None, None, "DEFAULT", "SYSTEM", "TEMP", "PASSWORD", CREATED, "YES", "Y"),
        ("APP", "OPEN", None, EXPIRES, "LIMITED", "USERS", "TEMP", "PASSWORD", CREATED, "NO", "N"),
        ("DBA1", "EXPIRED & LOCKED", CREATED, CREATED, "DEFAULT", "USERS", "TEMP", "PASSWORD", CREATED, "NO", "N"),
        ("OWNER", "OPEN", None, None, "INHERITS", "USERS", "TEMP", "NONE", CREATED, "NO", "N"),
        ("C##BACKUP", "LOCKED(TIMED)", CREATED, None, "GONE", "USERS", "TEMP", "EXTERNAL", CREATED, "YES", "N"),
        ('漢字 "q"', "OPEN", None, None, "DEFAULT", "USERS", "TEMP", None, CREATED, "NO", "N"),
    ],
    catalogue.ROLES: [("REPORTING", "NONE", "NO"), ("HELPDESK", "NONE", "NO")],
    catalogue.SESSION_LIMITS: [("DEFAULT", "UNLIMITED"), ("LIMITED", "5"), ("INHERITS", "DEFAULT")],
    catalogue.ROLE_GRANTS: [
        ("APP", "REPORTING", "YES"),
        ("APP", "CONNECT", "NO"),
        ("DBA1", "HELPDESK", "NO"),
        ("HELPDESK", "DBA", "NO"),
        ("DBA", "HELPDESK", "NO"),
    ],
    catalogue.SYSTEM_PRIVILEGES: [("APP", "CREATE SESSION", "NO"), ("APP", "CREATE TABLE", "YES")],
    catalogue.OBJECT_PRIVILEGES: [
        ("REPORTING", "OWNER", "ORDERS", None, "SELECT", "NO"),
        ("APP", "OWNER", "ORDERS", "PRICE", "UPDATE", "YES"),
    ],
    catalogue.PASSWORD_FILE_USERS: [
        ("SYS", "TRUE", "TRUE", "FALSE", "FALSE", "FALSE", "FALSE"),
        ("C##BACKUP", "FALSE", "FALSE", "FALSE", "TRUE", "FALSE", "FALSE"),
    ],
}


@pytest.fixture
async def accounts() -> Mapping[str, FoundAccount]:
    found = await OracleSession(RecordedRows(GRANTED, "19.22.0.0.0")).accounts()
    return {account.username: account for account in found}


class TestAccounts:
    async def test_are_users_and_made_roles(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert set(accounts) == {
            "SYS", "APP", "DBA1", "OWNER", "C##BACKUP", '漢字 "q"', "REPORTING", "HELPDESK",
        }  # fmt: skip
        assert not accounts["REPORTING"].can_login
        assert accounts["REPORTING"].attributes == {"type": "role", "common": "NO", "authentication": "NONE"}

    async def test_sys_and_who_reaches_dba_are_superusers(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert {name for name, account in accounts.items() if account.is_superuser} == {"SYS", "DBA1"}

    async def test_sysdba_makes_a_superuser(self) -> None:
        granted = {**GRANTED, catalogue.PASSWORD_FILE_USERS: [("APP", "TRUE", *["FALSE"] * 5)]}

        found = {each.username: each for each in await OracleSession(RecordedRows(granted, "19.1")).accounts()}

        assert found["APP"].is_superuser
        assert "SYSDBA" in found["APP"].permissions.global_privileges

    async def test_tell_who_may_sign_in_and_how(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert not accounts["OWNER"].can_login
        assert {name for name, account in accounts.items() if account.is_locked} == {"DBA1", "C##BACKUP"}
        assert accounts["C##BACKUP"].authentication_method == "external"
        assert accounts["APP"].password_expires_at == EXPIRES.replace(tzinfo=UTC)

    async def test_sessions_are_the_profile_s_or_the_default_s(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert accounts["APP"].connection_limit == 5
        assert accounts["OWNER"].connection_limit is None
        limited = {**GRANTED, catalogue.SESSION_LIMITS: [("DEFAULT", "7"), ("INHERITS", "DEFAULT")]}
        found = await OracleSession(RecordedRows(limited, "19.1")).accounts()
        assert {each.connection_limit for each in found if each.can_login} == {7}

    async def test_hold_roles_and_privileges(self, accounts: Mapping[str, FoundAccount]) -> None:
        rights = accounts["APP"].permissions

        assert rights.roles == ["CONNECT", "REPORTING"]
        assert rights.global_privileges == ["CREATE SESSION", "CREATE TABLE"]
        assert rights.object_privileges == {"OWNER.ORDERS.PRICE": ["UPDATE"]}
        assert rights.grantable_privileges == ["*: CREATE TABLE", "*: REPORTING", "OWNER.ORDERS.PRICE: UPDATE"]
        assert accounts["REPORTING"].permissions.object_privileges == {"OWNER.ORDERS": ["SELECT"]}
        assert accounts["C##BACKUP"].permissions.global_privileges == ["SYSBACKUP"]

    async def test_privileges_on_schemas_are_asked_for_since_23(self) -> None:
        granted = {**GRANTED, catalogue.SCHEMA_PRIVILEGES: [("APP", "OWNER", "SELECT ANY TABLE", "YES")]}
        server = RecordedRows(granted, "23.5.0.24.7")

        found = {each.username: each for each in await OracleSession(server).accounts()}

        assert found["APP"].permissions.database_privileges == {"OWNER": ["SELECT ANY TABLE"]}
        assert "OWNER: SELECT ANY TABLE" in found["APP"].permissions.grantable_privileges

    async def test_take_a_fixed_number_of_questions(self) -> None:
        user = ("OPEN", None, None, "DEFAULT", "USERS", "TEMP", "PASSWORD", CREATED, "NO", "N")
        server = RecordedRows({**GRANTED, catalogue.USERS: [(f"U{n}", *user) for n in range(500)]}, "19.1")

        assert len(await OracleSession(server).accounts()) == 502
        assert len(server.asked) == 7

    def test_no_password_is_asked_for(self) -> None:
        for question in (catalogue.USERS, catalogue.PASSWORD_FILE_USERS):
            columns = question.statement.lower().partition("from")[0]
            assert "password" not in columns
            assert "*" not in columns


IN_ROOT: Mapping[Question[Any], Rows | ServerFailure] = {
    catalogue.CONTAINER_NAME: [("CDB$ROOT",)],
    catalogue.CHARACTER_SET: [("AL32UTF8",)],
    catalogue.CONTAINERS: [("CDB$ROOT", 2_000), ("PDB$SEED", 1_000), ("SALES", 5_000), ("CLOSED", None)],
    catalogue.largest_tables(2, by_container=True): [("SALES", "OWNER", "ORDERS", 300, 100, 42)],
}
IN_PDB: Mapping[Question[Any], Rows | ServerFailure] = {
    catalogue.CONTAINER_NAME: [("SALES",)],
    catalogue.CHARACTER_SET: [("AL32UTF8",)],
    catalogue.SCHEMAS: [("OWNER", 5_000, "N"), ("SYS", 9_000, "Y"), ("DROPPED", 10, None)],
    catalogue.largest_tables(2, by_container=False): [
        (None, "OWNER", "SMALL", 10, 0, None),
        (None, "OWNER", "ORDERS", 300, 100, 42),
    ],
}


class TestFindings:
    async def test_databases_of_a_root_are_its_containers(self) -> None:
        found = await OracleSession(RecordedRows(IN_ROOT)).databases()

        assert [database.name for database in found] == ["CDB$ROOT", "PDB$SEED", "SALES", "CLOSED"]
        assert [database.name for database in found if database.is_system] == ["CDB$ROOT", "PDB$SEED"]

    async def test_databases_elsewhere_are_the_schemas(self) -> None:
        found = await OracleSession(RecordedRows(IN_PDB)).databases()

        assert found == [
            FoundDatabase("OWNER", "OWNER", "AL32UTF8"),
            FoundDatabase("SYS", "SYS", "AL32UTF8", is_system=True),
            FoundDatabase("DROPPED", "DROPPED", "AL32UTF8"),
        ]

    async def test_sizes_of_containers(self) -> None:
        sizes = await OracleSession(RecordedRows(IN_ROOT)).sizes(2)

        assert sizes.databases == [
            DatabaseSize("CDB$ROOT", 2_000), DatabaseSize("PDB$SEED", 1_000), DatabaseSize("SALES", 5_000),
        ]  # fmt: skip
        assert sizes.tables == [TableSize("SALES", "OWNER", "ORDERS", 400, 300, 100, 42)]

    async def test_sizes_of_schemas(self) -> None:
        sizes = await OracleSession(RecordedRows(IN_PDB)).sizes(2)

        assert sizes.total_bytes == 14_010
        assert [(table.database_name, table.schema_name, table.table_name) for table in sizes.tables] == [
            ("OWNER", "", "ORDERS"),
            ("OWNER", "", "SMALL"),
        ]

    async def test_tables_are_left_out_when_none_are_wanted(self) -> None:
        assert not (await OracleSession(RecordedRows(IN_PDB)).sizes(0)).tables

    async def test_settings(self) -> None:
        found = await OracleSession(
            RecordedRows({catalogue.PARAMETERS: [("processes", "300"), ("x", None)]})
        ).settings()

        assert found == {"processes": "300"}

    @pytest.mark.parametrize(
        ("lag", "seconds"), [([("+01 02:03:04",)], 93784), ([("+00 00:00:00",)], 0), ([(None,)], None), ([], None)]
    )
    async def test_members(self, lag: Rows, seconds: int | None) -> None:
        answers: dict[Question[Any], Rows | ServerFailure] = {
            catalogue.APPLY_LAG: lag,
            catalogue.PLACE: [
                ("sales_b", "PHYSICAL STANDBY", "READ ONLY WITH APPLY", "MAXIMUM AVAILABILITY", "sales1", 1)
            ],
        }

        assert await OracleSession(RecordedRows(answers)).members() == [
            OracleMember(
                role="physical standby",
                database_unique_name="sales_b",
                open_mode="READ ONLY WITH APPLY",
                protection_mode="MAXIMUM AVAILABILITY",
                instance_name="sales1",
                instance_number=1,
                lag_seconds=seconds,
            )
        ]

    async def test_check_tells_the_driver_s_version_of_the_server(self) -> None:
        check = await OracleSession(RecordedRows({catalogue.TRIVIAL: [(1,)]}, "19.22.0.0.0")).check()

        assert check.version == "19.22.0.0.0"


async def failure_of(port: int, **changes: Any) -> ServerFailure:
    changes = {"database_name": "orders", **changes}
    with pytest.raises(ServerFailure) as caught:
        async with adapter.connect(a_target(DatabaseType.ORACLE, port, **changes)):
            pass
    assert PASSWORD not in f"{caught.value!r} {caught.value.message} {caught.value.hint}"
    return caught.value


class TestRedirection:
    async def test_to_another_host_is_refused_and_nobody_is_met_there(self) -> None:
        met: list[object] = []

        async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            met.append(reader)

        async with listening(elsewhere) as other, listening(listener(redirect("localhost", other))) as port:
            failure = await failure_of(port)

        assert failure.kind is FailureKind.ADDRESS_DENIED
        assert f"localhost:{other}" in failure.message
        assert met == []

    async def test_to_a_name_is_not_even_resolved(self) -> None:
        async with listening(listener(redirect("metadata.muster.test", 80))) as port:
            failure = await failure_of(port)

        assert failure.kind is FailureKind.ADDRESS_DENIED

    @pytest.mark.parametrize("host", [HOST, "127.0.0.1"])
    async def test_to_the_same_host_s_other_port_goes_to_the_judged_address(self, host: str) -> None:
        async with listening(listener(refuse(12514))) as other, listening(listener(redirect(host, other))) as port:
            failure = await failure_of(port)

        assert failure.kind is FailureKind.DATABASE_MISSING


class TestConnecting:
    def test_is_the_registered_adapter(self) -> None:
        assert adapter_of(DatabaseType.ORACLE) is adapter

    async def test_needs_a_service(self) -> None:
        failure = await failure_of(1, database_name=None)

        assert failure.kind is FailureKind.DATABASE_MISSING
        assert "service" in failure.hint

    async def test_tcps_verifies_for_the_host(self, tmp_path: Path) -> None:
        """The listener's refusal is read, so that the handshake was good."""
        authority = CertificateAuthority(tmp_path)
        changes = {"tls_mode": TlsMode.VERIFY_FULL, "tls_ca_file": authority.file}
        async with listening(listener(refuse(12514)), a_context(authority, HOST)) as port:
            assert (await failure_of(port, **changes)).kind is FailureKind.DATABASE_MISSING
        async with listening(listener(refuse(12514)), a_context(authority, "127.0.0.1")) as port:
            failure = await failure_of(port, **changes)

        assert failure.kind is FailureKind.TLS
        assert HOST in failure.hint

    async def test_require_is_refused_by_a_port_without_tls(self) -> None:
        async with listening(listener(refuse(12514))) as port:
            failure = await failure_of(port, tls_mode=TlsMode.REQUIRE)

        assert failure.kind in (FailureKind.TLS, FailureKind.CLOSED)

    async def test_prefer_takes_what_the_port_speaks(self, tmp_path: Path) -> None:
        context = a_context(CertificateAuthority(tmp_path), HOST)
        async with listening(listener(refuse(12514)), context) as port:
            assert (await failure_of(port, tls_mode=TlsMode.PREFER)).kind is FailureKind.DATABASE_MISSING
        async with listening(listener(refuse(12514))) as port:
            assert (await failure_of(port, tls_mode=TlsMode.PREFER)).kind is FailureKind.DATABASE_MISSING

    def test_the_driver_s_parameters_tell_the_machine_nothing(self) -> None:
        made = parameters(a_target(DatabaseType.ORACLE, 1521, database_name="orders"), "127.0.0.1", "tcp", 3.0)

        assert (made.machine, made.osuser, made.program) == ("muster", "muster", "muster")
        assert (made.host, made.service_name, made.retry_count) == ("127.0.0.1", "orders", 0)


def a_context(authority: CertificateAuthority, host: str) -> ssl.SSLContext:
    files = authority.issue(host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


class TestFailures:
    @pytest.mark.parametrize(
        ("code", "kind", "server_code"),
        [
            (12514, FailureKind.DATABASE_MISSING, "DPY-6001"),
            (12505, FailureKind.DATABASE_MISSING, "DPY-6003"),
            (12520, FailureKind.SERVER_ERROR, "ORA-12520"),
            (12528, FailureKind.SERVER_ERROR, "ORA-12528"),
        ],
    )
    async def test_of_the_listener(self, code: int, kind: FailureKind, server_code: str) -> None:
        async with listening(listener(refuse(code))) as port:
            failure = await failure_of(port)

        assert (failure.kind, failure.server_code) == (kind, server_code)

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (1017, FailureKind.SIGN_IN_REFUSED),
            (28000, FailureKind.SIGN_IN_REFUSED),
            (28001, FailureKind.SIGN_IN_REFUSED),
            (942, FailureKind.PERMISSION_MISSING),
            (1031, FailureKind.PERMISSION_MISSING),
            (1033, FailureKind.SERVER_ERROR),
            (904, FailureKind.SERVER_ERROR),
        ],
    )
    def test_of_the_server(self, code: int, kind: FailureKind) -> None:
        text = f"ORA-{code:05}: it said {PASSWORD}"
        failure = driver_failure(oracledb.DatabaseError(told(text, code)), a_target(DatabaseType.ORACLE))

        assert (failure.kind, failure.server_code) == (kind, f"ORA-{code:05}")
        assert failure.message == f"ORA-{code:05}: it said ***"

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("DPY-4024: call timeout of 1000 ms exceeded", FailureKind.TIMED_OUT),
            ("DPY-4011: the database or network closed the connection", FailureKind.CLOSED),
            ("DPY-5000: internal error: unknown protocol message type 88", FailureKind.PROTOCOL),
            ("DPY-3010: connections to this database server version are not supported", FailureKind.SERVER_ERROR),
        ],
    )
    def test_of_the_driver(self, text: str, kind: FailureKind) -> None:
        assert driver_failure(oracledb.DatabaseError(told(text)), a_target(DatabaseType.ORACLE)).kind is kind

    async def test_nobody_listens(self) -> None:
        assert (await failure_of(free_port())).kind is FailureKind.REFUSED

    async def test_the_next_address_is_tried(self) -> None:
        async with listening(listener(refuse(12514))) as port:
            failure = await failure_of(port, addresses=("127.0.0.9", "127.0.0.1"))

        assert failure.kind is FailureKind.DATABASE_MISSING

    async def test_closes_at_once(self) -> None:
        async with listening(closing) as port:
            assert (await failure_of(port)).kind is FailureKind.CLOSED

    async def test_answers_garbage(self) -> None:
        async with listening(garbage) as port:
            failure = await failure_of(port, connect_seconds=0.5)

        assert failure.kind in (FailureKind.PROTOCOL, FailureKind.CLOSED, FailureKind.TIMED_OUT)

    async def test_accepts_and_never_answers(self) -> None:
        began = time.monotonic()
        async with listening(silent) as port:
            failure = await failure_of(port, connect_seconds=0.3)

        assert failure.kind is FailureKind.TIMED_OUT
        assert time.monotonic() - began < 5
        await asyncio.sleep(0.1)
        assert not [thread for thread in threading.enumerate() if thread.name == "oracle"]

    async def test_cancelling_ends_its_thread(self) -> None:
        async with listening(silent) as port:
            task = asyncio.create_task(failure_of(port, connect_seconds=600))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.1)

        assert not [thread for thread in threading.enumerate() if thread.name == "oracle"]


def told(text: str, code: int = 0) -> Any:
    return _Error(text, code=code)


class TestLoop:
    async def test_connects_to_the_judged_address_only(self) -> None:
        async def dial(host: str, port: int) -> str:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, host, port)
            transport.abort()
            return host

        async with listening(closing) as port:
            loop = ConnectionLoop(a_target(DatabaseType.ORACLE, port), "127.0.0.1")
            loop.start()
            try:
                assert await loop.run(dial(HOST, port)) == HOST
                with pytest.raises(ServerFailure, match="localhost"):
                    await loop.run(dial("localhost", port))
            finally:
                loop.stop()

    async def test_resolves_nothing(self) -> None:
        loop = ConnectionLoop(a_target(DatabaseType.ORACLE), "127.0.0.1")
        loop.start()
        try:
            with pytest.raises(ConnectionAbortedError):
                await loop.run(resolve("localhost"))
        finally:
            loop.stop()


async def resolve(host: str) -> Any:
    return await asyncio.get_running_loop().getaddrinfo(host, 80)
