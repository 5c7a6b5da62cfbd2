"""The SQL Server adapter against recorded rows and a small server of the protocol: no SQL Server is in the test run."""

import asyncio
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.capacity.records import DatabaseSize, TableSize
from app.inventory.records import FoundAccount, FoundDatabase, SqlserverMember
from app.models.instance import DatabaseType, TlsMode
from app.syncs.adapters import sqlserver_catalogue as catalogue
from app.syncs.adapters import sqlserver_connection
from app.syncs.adapters.question import Question
from app.syncs.adapters.registry import adapter_of
from app.syncs.adapters.sqlserver import SqlServerSession, adapter
from app.syncs.failures import FailureKind, ServerFailure
from tests.postgres_server import free_port
from tests.syncs.adapters.recorded import HOST, PASSWORD, RecordedRows, Rows, a_target
from tests.syncs.adapters.recorded_wire import (
    ENCRYPT_ON,
    REQUIRED,
    SIGNED_IN,
    TdsServer,
    closing,
    done,
    garbage,
    listening,
    routing,
    silent,
    tds_error,
    tds_rows,
)
from tests.syncs.certificates import CertificateAuthority

# As drivers hand dates over that have no zone.
CREATED = datetime(2025, 3, 1, 12, 30)  # noqa: DTZ001
SALES = "[sales]"
ODD_NAME = "odd ]] {x} 漢字 😀"
ODD = "[odd ]]]] {x} 漢字 😀]"


def a_login(number: int, name: str, kind: str = "S", desc: str = "SQL_LOGIN", **changes: Any) -> tuple[Any, ...]:
    login = catalogue.Login(
        number, bytes([number]) * 16, name, kind, desc, False, "master", "us_english",
        True, False, 0, 0, 0, CREATED, CREATED,
    )  # fmt: skip
    return tuple(login._replace(**changes))


def a_database(number: int, name: str, has_access: int = 1) -> tuple[Any, ...]:
    return (number, name, "sa", "SQL_Latin1_General_CP1_CI_AS", 1252, False, has_access)


def in_database(
    database: str, principals: Rows = (), memberships: Rows = (), permissions: Rows = ()
) -> dict[Question[Any], Rows | ServerFailure]:
    return {
        catalogue.DATABASE_PRINCIPALS.about(database=database): principals,
        catalogue.DATABASE_MEMBERSHIPS.about(database=database): memberships,
        catalogue.DATABASE_PERMISSIONS.about(database=database): permissions,
    }


ABLE = {catalogue.ABILITY: [(1, 1, 3, 0)]}

SERVER: Mapping[Question[Any], Rows | ServerFailure] = {
    **ABLE,
    catalogue.LOGINS: [
        a_login(1, "sa", is_disabled=True),
        a_login(10, "app's 漢字 😀", is_locked=1),
        a_login(11, r"CORP\dba", "U", "WINDOWS_LOGIN", is_policy_checked=None, is_locked=None, password_set=None),
        a_login(12, "operators", "R", "SERVER_ROLE", is_policy_checked=None, is_locked=None, password_set=None),
        a_login(13, "controller"),
        a_login(14, "##MS_Agent##", "C", "CERTIFICATE_MAPPED_LOGIN", password_set=None),
    ],
    catalogue.MEMBERSHIPS: [(1, "sysadmin"), (11, "operators"), (12, "sysadmin")],
    catalogue.SERVER_PERMISSIONS: [
        (10, "SERVER", "CONNECT SQL", "G", None),
        (10, "SERVER", "VIEW SERVER STATE", "W", None),
        (10, "SERVER_PRINCIPAL", "IMPERSONATE", "G", "sa"),
        (13, "SERVER", "CONTROL SERVER", "G", None),
        (13, "SERVER", "CONNECT SQL", "D", None),
        (99, "SERVER", "CONNECT SQL", "G", None),
    ],
    catalogue.DATABASES: [
        a_database(1, "master"),
        a_database(5, "sales"),
        a_database(6, "restoring", 0),
        a_database(7, ODD_NAME),
        a_database(8, "gone"),
    ],
    **in_database("[master]"),
    **in_database(
        SALES,
        principals=[
            (0, "public", b"\x01", "R", "DATABASE_ROLE", None, False),
            (1, "dbo", bytes([1]) * 16, "S", "SQL_USER", "INSTANCE", False),
            (5, "app", bytes([10]) * 16, "S", "SQL_USER", "INSTANCE", False),
            (6, "reporting", b"\x02", "R", "DATABASE_ROLE", None, False),
            (7, "contained", b"\x03", "S", "SQL_USER", "DATABASE", False),
            (8, "orphan", b"\x04", "S", "SQL_USER", "INSTANCE", False),
            (16384, "db_owner", b"\x05", "R", "DATABASE_ROLE", None, True),
        ],
        memberships=[(1, "db_owner"), (5, "reporting"), (7, "db_datareader")],
        permissions=[
            (5, "DATABASE", 0, "CONNECT", "G", None, None, None),
            (5, "OBJECT_OR_COLUMN", 100, "SELECT", "W", "dbo", "orders", None),
            (5, "OBJECT_OR_COLUMN", 100, "UPDATE", "G", "dbo", "orders", "price"),
            (5, "OBJECT_OR_COLUMN", 101, "DELETE", "D", "dbo", "customers", None),
            (6, "SCHEMA", 1, "EXECUTE", "G", "dbo", None, None),
            (7, "DATABASE_PRINCIPAL", 5, "IMPERSONATE", "G", None, "app", None),
            (7, "TYPE", 300, "REFERENCES", "G", None, None, None),
            (8, "DATABASE", 0, "CONNECT", "G", None, None, None),
        ],
    ),
    **in_database(ODD, permissions=[], principals=[]),
    catalogue.DATABASE_PRINCIPALS.about(database="[gone]"): ServerFailure(
        FailureKind.DATABASE_MISSING, "no such database", "", "911"
    ),
}


def a_session(answers: Mapping[Question[Any], Rows | ServerFailure], max_databases: int = 200) -> SqlServerSession:
    return SqlServerSession(RecordedRows(answers), max_databases)


@pytest.fixture
async def accounts() -> Mapping[str, FoundAccount]:
    return {account.username: account for account in await a_session(SERVER).accounts()}


class TestAccounts:
    async def test_are_logins_made_roles_and_users_without_a_login(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert set(accounts) == {
            "sa", "app's 漢字 😀", r"CORP\dba", "operators", "controller", "##MS_Agent##",
            "sales.reporting", "contained@sales",
        }  # fmt: skip

    async def test_who_is_sysadmin_through_whatever_role_or_controls_the_server_is_a_superuser(
        self, accounts: Mapping[str, FoundAccount]
    ) -> None:
        superusers = {name for name, account in accounts.items() if account.is_superuser}

        assert superusers == {"sa", r"CORP\dba", "operators", "controller"}

    async def test_tell_who_may_sign_in(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert {name for name, account in accounts.items() if not account.can_login} == {
            "operators", "controller", "##MS_Agent##", "sales.reporting",
        }  # fmt: skip
        assert {name for name, account in accounts.items() if account.is_locked} == {"sa", "app's 漢字 😀"}

    async def test_hold_rights_on_the_server_and_in_databases(self, accounts: Mapping[str, FoundAccount]) -> None:
        rights = accounts["app's 漢字 😀"].permissions

        assert rights.roles == ["sales.reporting"]
        assert rights.global_privileges == ["CONNECT SQL", "VIEW SERVER STATE"]
        assert rights.database_privileges == {"sales": ["CONNECT"]}
        assert rights.object_privileges == {
            "SERVER_PRINCIPAL::sa": ["IMPERSONATE"],
            "sales.dbo.customers": ["DENY DELETE"],
            "sales.dbo.orders": ["SELECT"],
            "sales.dbo.orders.price": ["UPDATE"],
        }
        assert rights.grantable_privileges == ["*: VIEW SERVER STATE", "sales.dbo.orders: SELECT"]

    async def test_rights_of_roles_and_contained_users_are_theirs(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert accounts["sales.reporting"].permissions.object_privileges == {"sales.dbo": ["EXECUTE"]}
        contained = accounts["contained@sales"]
        assert contained.permissions.roles == ["sales.db_datareader"]
        assert contained.permissions.object_privileges == {
            "sales.DATABASE_PRINCIPAL::app": ["IMPERSONATE"],
            "sales.TYPE::300": ["REFERENCES"],
        }
        assert contained.authentication_method == "database_user"

    async def test_the_owner_of_a_database_is_its_dbo(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert "sales.db_owner" in accounts["sa"].permissions.roles

    async def test_attributes_are_the_server_s_and_no_password(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert accounts["sa"].attributes == {
            "type": "sql_login",
            "is_disabled": True,
            "default_database": "master",
            "default_language": "us_english",
            "is_policy_checked": True,
            "is_expiration_checked": False,
            "is_expired": False,
            "must_change_password": False,
            "password_set": CREATED.isoformat(),
            "created": CREATED.isoformat(),
        }
        assert "password_hash" not in catalogue.LOGINS.statement

    async def test_a_contained_user_does_not_displace_a_login_of_its_name(self) -> None:
        answers = {**SERVER, catalogue.LOGINS: [a_login(20, "contained@sales", is_disabled=True)]}

        found = [account for account in await a_session(answers).accounts() if account.username == "contained@sales"]

        assert [account.is_locked for account in found] == [True]

    async def test_take_questions_by_database_whatever_the_number_of_accounts(self) -> None:
        server = RecordedRows({**SERVER, catalogue.LOGINS: [a_login(n, f"login-{n}") for n in range(1, 250)]})

        await SqlServerSession(server, 2).accounts()

        assert len(server.asked) == 5 + 2 * 3

    @pytest.mark.parametrize("ability", [(0, 1, 3, 0), (1, 0, 3, 0), (None, 1, 3, 0)])
    async def test_a_login_that_sees_a_part_only_is_refused(self, ability: tuple[Any, ...]) -> None:
        with pytest.raises(ServerFailure) as caught:
            await a_session({**SERVER, catalogue.ABILITY: [ability]}).accounts()

        assert caught.value.kind is FailureKind.PERMISSION_MISSING
        assert "GRANT VIEW" in caught.value.hint

    async def test_azure_sql_database_is_told_apart(self) -> None:
        with pytest.raises(ServerFailure, match="Azure SQL Database"):
            await a_session({catalogue.ABILITY: [(1, 1, 5, 0)]}).accounts()

    async def test_another_failure_in_a_database_is_not_passed_over(self) -> None:
        failure = ServerFailure(FailureKind.PERMISSION_MISSING, "no", "", "229")
        answers = {**SERVER, catalogue.DATABASE_MEMBERSHIPS.about(database=SALES): failure}

        with pytest.raises(ServerFailure) as caught:
            await a_session(answers).accounts()

        assert caught.value is failure


class TestFindings:
    async def test_databases(self) -> None:
        found = await a_session(SERVER).databases()

        assert found[1] == FoundDatabase("sales", "sa", "cp1252", "SQL_Latin1_General_CP1_CI_AS", False)
        assert [database.name for database in found if database.is_system] == ["master"]

    async def test_sizes(self) -> None:
        answers: dict[Question[Any], Rows | ServerFailure] = {
            **ABLE,
            catalogue.DATABASES: [a_database(1, "master"), a_database(5, "sales"), a_database(6, "restoring", 0)],
            catalogue.FILE_SIZES: [("master", 8_388_608), ("sales", 1_073_741_824), ("tempdb", 16_777_216)],
            catalogue.LARGEST_TABLES.about(database="[master]", limit="3"): ServerFailure(
                FailureKind.SERVER_ERROR, "offline", "", "942"
            ),
            catalogue.LARGEST_TABLES.about(database=SALES, limit="3"): [
                ("dbo", "orders", 800_000, 500_000, 200_000, 1234),
                ("dbo", "empty", 0, 0, 0, 0),
            ],
        }

        sizes = await a_session(answers).sizes(3)

        assert list(sizes.databases) == [
            DatabaseSize("master", 8_388_608), DatabaseSize("sales", 1_073_741_824), DatabaseSize("tempdb", 16_777_216),
        ]  # fmt: skip
        assert sizes.tables[0] == TableSize("sales", "dbo", "orders", 800_000, 500_000, 200_000, 1234)
        assert len(sizes.tables) == 2

    async def test_settings(self) -> None:
        answers: dict[Question[Any], Rows | ServerFailure] = {
            catalogue.CONFIGURATIONS: [("max server memory (MB)", "2147483647")],
            catalogue.PROPERTIES: [("Edition", "Developer Edition (64-bit)"), ("ProductUpdateLevel", None)],
        }

        assert await a_session(answers).settings() == {
            "max server memory (MB)": "2147483647",
            "Edition": "Developer Edition (64-bit)",
        }

    async def test_members_are_its_availability_groups(self) -> None:
        answers: dict[Question[Any], Rows | ServerFailure] = {
            catalogue.ABILITY: [(1, 1, 3, 1)],
            catalogue.REPLICAS: [
                ("ag1", "SQL01", "PRIMARY", "SYNCHRONOUS_COMMIT", "AUTOMATIC", "HEALTHY", "ag1-listener"),
                ("ag2", "SQL01", None, "ASYNCHRONOUS_COMMIT", "MANUAL", None, None),
            ],
        }

        assert await a_session(answers).members() == [
            SqlserverMember(
                group_name="ag1",
                role="primary",
                replica_server_name="SQL01",
                availability_mode="synchronous_commit",
                failover_mode="automatic",
                synchronization_health="healthy",
                listener="ag1-listener",
            ),
            SqlserverMember(
                group_name="ag2",
                role="resolving",
                replica_server_name="SQL01",
                availability_mode="asynchronous_commit",
                failover_mode="manual",
            ),
        ]

    async def test_a_server_without_availability_groups_is_not_asked_for_them(self) -> None:
        server = RecordedRows(ABLE)

        assert await SqlServerSession(server, 1).members() == []
        assert len(server.asked) == 1


VERSION = "16.0.4135.4"
CHECKED = {"ProductVersion": tds_rows((VERSION,)), "SELECT 1": tds_rows((1,))}


async def failure_of(port: int, **changes: Any) -> ServerFailure:
    with pytest.raises(ServerFailure) as caught:
        async with adapter.connect(a_target(DatabaseType.SQLSERVER, port, **changes)) as session:
            await session.check()
    assert PASSWORD not in f"{caught.value!r} {caught.value.message} {caught.value.hint}"
    return caught.value


class TestConnecting:
    async def test_signs_in_and_asks(self) -> None:
        server = TdsServer(CHECKED)
        async with listening(server) as port, adapter.connect(a_target(DatabaseType.SQLSERVER, port)) as session:
            check = await session.check()

        assert check.version == VERSION
        assert 0 < check.round_trip_seconds < 10
        assert server.batches[0] == "SET LOCK_TIMEOUT 9000; SET DEADLOCK_PRIORITY LOW; SET NOCOUNT ON"

    async def test_declares_that_it_only_reads_and_its_database(self) -> None:
        server = TdsServer(CHECKED)
        target = a_target(DatabaseType.SQLSERVER, database_name="sales")
        async with listening(server) as port:
            await failure_free(target, port)

        # LOGIN7's TypeFlags, whose bit 5 is the intent to read only.
        assert server.logins[0][26] & 0x20
        assert "sales".encode("utf-16-le") in server.logins[0]

    def test_is_the_registered_adapter(self) -> None:
        assert adapter_of(DatabaseType.SQLSERVER) is adapter

    @pytest.mark.parametrize("encryption", [ENCRYPT_ON, REQUIRED])
    async def test_encrypts_and_verifies_for_the_host(self, tmp_path: Path, encryption: int) -> None:
        authority = CertificateAuthority(tmp_path)
        server = TdsServer(CHECKED, encryption=encryption, context=a_context(authority, HOST))
        target = a_target(DatabaseType.SQLSERVER, tls_mode=TlsMode.VERIFY_FULL, tls_ca_file=authority.file)
        async with listening(server) as port:
            await failure_free(target, port)

        assert len(server.logins) == 1

    async def test_a_certificate_for_another_host_is_refused(self, tmp_path: Path) -> None:
        authority = CertificateAuthority(tmp_path)
        server = TdsServer(CHECKED, encryption=ENCRYPT_ON, context=a_context(authority, "127.0.0.1"))
        async with listening(server) as port:
            failure = await failure_of(port, tls_mode=TlsMode.VERIFY_FULL, tls_ca_file=authority.file)

        assert failure.kind is FailureKind.TLS
        assert HOST in failure.hint
        assert server.logins == []

    @pytest.mark.parametrize("mode", [TlsMode.REQUIRE, TlsMode.VERIFY_FULL])
    async def test_without_tls_nothing_is_sent_where_tls_is_demanded(self, mode: TlsMode) -> None:
        server = TdsServer(CHECKED)
        async with listening(server) as port:
            failure = await failure_of(port, tls_mode=mode)

        assert failure.kind is FailureKind.TLS
        assert server.logins == []

    async def test_prefer_goes_without_where_there_is_none(self) -> None:
        async with listening(TdsServer(CHECKED)) as port:
            await failure_free(a_target(DatabaseType.SQLSERVER, tls_mode=TlsMode.PREFER), port)

    async def test_a_server_that_demands_tls_is_told_so(self) -> None:
        server = TdsServer(CHECKED, encryption=REQUIRED)
        async with listening(server) as port:
            failure = await failure_of(port)

        assert failure.kind is FailureKind.TLS
        assert server.logins == []


async def failure_free(target: Any, port: int) -> None:
    changes = {name: getattr(target, name) for name in ("database_name", "tls_mode", "tls_ca_file")}
    async with adapter.connect(a_target(DatabaseType.SQLSERVER, port, **changes)) as session:
        assert (await session.check()).version == VERSION


def a_context(authority: CertificateAuthority, host: str) -> ssl.SSLContext:
    files = authority.issue(host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # What SQL Server speaks inside of PRELOGIN packets.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    return context


class TestRouting:
    async def test_to_another_host_is_refused(self) -> None:
        met: list[object] = []

        async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            met.append(reader)

        async with listening(elsewhere) as other:
            server = TdsServer(sign_in=lambda login: routing("127.0.0.1", other) + SIGNED_IN)
            async with listening(server) as port:
                failure = await failure_of(port)

        assert failure.kind is FailureKind.ADDRESS_DENIED
        assert f"127.0.0.1:{other}" in failure.message
        assert met == []

    async def test_of_connections_that_only_read_is_not_followed_but_asked_otherwise(self) -> None:
        def sign_in(login: bytes) -> bytes:
            return routing("secondary", 1433) + SIGNED_IN if login[26] & 0x20 else SIGNED_IN

        server = TdsServer(CHECKED, sign_in=sign_in)
        async with listening(server) as port:
            await failure_free(a_target(DatabaseType.SQLSERVER), port)

        assert [bool(login[26] & 0x20) for login in server.logins] == [True, False]


def refusing(*numbers: int) -> TdsServer:
    errors = b"".join(tds_error(number, f"error {number} for '{PASSWORD}'") for number in numbers)
    return TdsServer(sign_in=lambda login: errors + done(2))


class TestFailures:
    @pytest.mark.parametrize(
        ("numbers", "kind", "code"),
        [
            ((18456,), FailureKind.SIGN_IN_REFUSED, "18456"),
            ((4060, 18456), FailureKind.DATABASE_MISSING, "4060"),
            ((18470,), FailureKind.SIGN_IN_REFUSED, "18470"),
            ((18486,), FailureKind.SIGN_IN_REFUSED, "18486"),
            ((18488,), FailureKind.SIGN_IN_REFUSED, "18488"),
            ((17187,), FailureKind.SERVER_ERROR, "17187"),
            ((50000,), FailureKind.SERVER_ERROR, "50000"),
        ],
    )
    async def test_to_sign_in(self, numbers: tuple[int, ...], kind: FailureKind, code: str) -> None:
        async with listening(refusing(*numbers)) as port:
            failure = await failure_of(port)

        assert (failure.kind, failure.server_code) == (kind, code)
        assert failure.hint

    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            (229, FailureKind.PERMISSION_MISSING),
            (297, FailureKind.PERMISSION_MISSING),
            (300, FailureKind.PERMISSION_MISSING),
            (1222, FailureKind.TIMED_OUT),
            (208, FailureKind.SERVER_ERROR),
        ],
    )
    async def test_to_ask(self, number: int, kind: FailureKind) -> None:
        answers = {"SELECT 1": tds_error(number, "no") + done(2)}
        async with listening(TdsServer(answers)) as port:
            failure = await failure_of(port)

        assert (failure.kind, failure.server_code) == (kind, str(number))

    async def test_nobody_listens(self) -> None:
        assert (await failure_of(free_port())).kind is FailureKind.REFUSED

    async def test_the_next_address_is_tried(self) -> None:
        async with listening(TdsServer(CHECKED)) as port:
            target = a_target(DatabaseType.SQLSERVER, port, addresses=("127.0.0.9", "127.0.0.1"))
            async with adapter.connect(target) as session:
                assert (await session.check()).version == VERSION

    async def test_closes_at_once(self) -> None:
        async with listening(closing) as port:
            assert (await failure_of(port)).kind is FailureKind.CLOSED

    async def test_answers_garbage(self) -> None:
        async with listening(garbage) as port:
            assert (await failure_of(port)).kind in (FailureKind.PROTOCOL, FailureKind.CLOSED)

    async def test_sends_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlserver_connection, "MOST_BYTES", 20_000)
        answers = {"SELECT 1": tds_rows(*[("x" * 1000,)] * 100)}
        async with listening(TdsServer(answers)) as port:
            assert (await failure_of(port)).kind is FailureKind.PROTOCOL

    async def test_accepts_and_never_answers(self) -> None:
        began = time.monotonic()
        async with listening(silent) as port:
            failure = await failure_of(port, connect_seconds=0.3)

        assert failure.kind is FailureKind.TIMED_OUT
        assert time.monotonic() - began < 5

    async def test_sends_a_byte_now_and_then(self) -> None:
        async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"\x04\x01\xff\xff\0\0\0\0")
            while True:
                writer.write(b"\0")
                await writer.drain()
                await asyncio.sleep(0.05)

        began = time.monotonic()
        async with listening(dripping) as port:
            failure = await failure_of(port, connect_seconds=0.3)

        assert failure.kind is FailureKind.TIMED_OUT
        assert time.monotonic() - began < 5

    async def test_hangs_in_a_result(self) -> None:
        async with listening(TdsServer({"SELECT 1": b""})) as port:
            failure = await failure_of(port, statement_seconds=0.3)

        assert failure.kind is FailureKind.TIMED_OUT

    async def test_leaves_no_thread_when_cancelled(self) -> None:
        async with listening(TdsServer({"SELECT 1": b""})) as port:
            task = asyncio.create_task(failure_of(port, statement_seconds=600))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.1)

        assert not [thread for thread in busy_threads() if "sqlserver" in thread]

    @pytest.mark.parametrize("password", ["x" * 200, "smile 😀"])
    async def test_a_password_that_the_protocol_cannot_send(self, password: str) -> None:
        async with listening(TdsServer(CHECKED)) as port:
            failure = await failure_of(port, password=SecretStr(password))

        assert failure.kind is FailureKind.SIGN_IN_REFUSED


def busy_threads() -> list[str]:
    """Those that wait for a socket."""
    frames = sys._current_frames()
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.ident in frames and "sqlserver_connection" in str(traceback.extract_stack(frames[thread.ident]))
    ]
