"""The MongoDB adapter against recorded documents and a small server of the protocol: no MongoDB is in the test run."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.capacity.records import DatabaseSize, TableSize
from app.inventory.records import FoundAccount, FoundDatabase, MongodbMember
from app.models.instance import DatabaseType, TlsMode
from app.syncs.adapters import mongodb, mongodb_connection
from app.syncs.adapters.mongodb import MongodbSession, adapter
from app.syncs.adapters.registry import adapter_of
from app.syncs.adapters.tls import client_context
from app.syncs.failures import FailureKind, ServerFailure
from tests.postgres_server import free_port
from tests.syncs.adapters.recorded import HOST, PASSWORD, RecordedDocuments, a_target
from tests.syncs.adapters.recorded_wire import MongoServer, closing, garbage, listening, silent
from tests.syncs.certificates import CertificateAuthority


def a_user(name: str, *roles: tuple[str, str], db: str = "admin", **more: Any) -> Mapping[str, Any]:
    return {
        "_id": f"{db}.{name}",
        "userId": b"",
        "user": name,
        "db": db,
        "roles": [{"role": role, "db": of} for of, role in roles],
        "mechanisms": ["SCRAM-SHA-1", "SCRAM-SHA-256"],
        "customData": {"secret": PASSWORD},
        **more,
    }


def a_role(name: str, *privileges: tuple[Mapping[str, Any], list[str]], db: str = "admin", **more: Any) -> Any:
    return {
        "_id": f"{db}.{name}",
        "role": name,
        "db": db,
        "roles": [],
        "privileges": [{"resource": resource, "actions": actions} for resource, actions in privileges],
        "isBuiltin": False,
        **more,
    }


USERS = [
    a_user("root", ("admin", "root")),
    a_user("app 漢字 😀", ("sales", "readWrite"), ("admin", "reporting"), db="sales"),
    a_user("ops", ("admin", "operations")),
    a_user("boss", ("admin", "everything")),
    a_user("CN=client", db="$external", mechanisms=[]),
]
ROLES = [
    a_role("everything", ({"anyResource": True}, ["anyAction"])),
    a_role("operations", ({"cluster": True}, ["serverStatus"]), roles=[{"role": "root", "db": "admin"}]),
    a_role(
        "reporting",
        ({"db": "sales", "collection": ""}, ["listCollections"]),
        ({"db": "sales", "collection": "orders"}, ["find", "collStats"]),
        ({"db": "", "collection": "audit"}, ["find"]),
        ({"db": "", "collection": ""}, ["find"]),
    ),
]


@pytest.fixture
async def accounts() -> Mapping[str, FoundAccount]:
    server = RecordedDocuments({("usersInfo", "admin"): {"users": USERS}, ("rolesInfo", "admin"): {"roles": ROLES}})
    return {account.username: account for account in await MongodbSession(server, 200).accounts()}


class TestAccounts:
    async def test_are_users_and_the_made_roles_that_they_hold(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert set(accounts) == {
            "root@admin", "app 漢字 😀@sales", "ops@admin", "boss@admin", "CN=client@$external",
            "admin.everything", "admin.operations", "admin.reporting",
        }  # fmt: skip
        assert not accounts["admin.reporting"].can_login

    async def test_who_reaches_root_or_may_do_everything_is_a_superuser(
        self, accounts: Mapping[str, FoundAccount]
    ) -> None:
        superusers = {name for name, account in accounts.items() if account.is_superuser}

        assert superusers == {"root@admin", "ops@admin", "boss@admin"}

    async def test_hold_roles_and_roles_hold_privileges(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert accounts["app 漢字 😀@sales"].permissions.roles == ["admin.reporting", "sales.readWrite"]
        rights = accounts["admin.reporting"].permissions
        assert rights.database_privileges == {"sales": ["listCollections"]}
        assert rights.object_privileges == {"*.audit": ["find"], "sales.orders": ["collStats", "find"]}
        assert rights.global_privileges == ["find on every database"]
        assert accounts["admin.operations"].permissions.global_privileges == ["serverStatus"]

    async def test_tell_how_they_sign_in_and_nothing_of_custom_data(self, accounts: Mapping[str, FoundAccount]) -> None:
        assert accounts["root@admin"].authentication_method == "scram-sha-1, scram-sha-256"
        assert accounts["CN=client@$external"].authentication_method == "external"
        assert PASSWORD not in repr(accounts)

    async def test_take_two_questions(self) -> None:
        users = [a_user(f"u{n}", ("admin", "reporting")) for n in range(500)]
        server = RecordedDocuments({("usersInfo", "admin"): {"users": users}, ("rolesInfo", "admin"): {"roles": ROLES}})

        assert len(await MongodbSession(server, 200).accounts()) == 503
        assert len(server.asked) == 2
        assert server.asked[1]["rolesInfo"] == [{"role": "reporting", "db": "admin"}]

    async def test_built_in_roles_are_not_asked_about(self) -> None:
        server = RecordedDocuments({("usersInfo", "admin"): {"users": USERS[:1]}})

        found = await MongodbSession(server, 200).accounts()

        assert [account.username for account in found] == ["root@admin"]


LISTED = {
    "databases": [
        {"name": "admin", "sizeOnDisk": 40_960, "empty": False},
        {"name": "sales", "sizeOnDisk": 9_000_000, "empty": False},
    ]
}


def a_batch(*documents: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"cursor": {"id": 0, "ns": "", "firstBatch": list(documents)}}


def stats(data: int, indexes: int, rows: int) -> Mapping[str, Any]:
    return {"ns": "", "storageStats": {"storageSize": data, "totalIndexSize": indexes, "count": rows}}


SIZES: Mapping[tuple[str, str], Any] = {
    ("listDatabases", "admin"): LISTED,
    ("listCollections", "sales"): a_batch(
        {"name": "small", "type": "collection"},
        {"name": "orders", "type": "collection"},
        {"name": "meter", "type": "timeseries"},
        {"name": "system.views", "type": "collection"},
    ),
    ("listCollections", "admin"): a_batch(),
    ("aggregate", "sales.small"): a_batch(stats(10, 5, 1)),
    ("aggregate", "sales.orders"): a_batch(stats(1_000, 100, 40), stats(2_000, 200, 2)),
    ("aggregate", "sales.meter"): ServerFailure(FailureKind.SERVER_ERROR, "a view", "", "166"),
}


class TestFindings:
    async def test_databases(self) -> None:
        found = await MongodbSession(RecordedDocuments({("listDatabases", "admin"): LISTED}), 200).databases()

        assert found == [FoundDatabase("admin", is_system=True), FoundDatabase("sales")]

    async def test_sizes_add_up_shards(self) -> None:
        sizes = await MongodbSession(RecordedDocuments(SIZES), 200).sizes(5)

        assert sizes.databases == [DatabaseSize("admin", 40_960), DatabaseSize("sales", 9_000_000)]
        assert sizes.tables == [
            TableSize("sales", "", "orders", 3_300, 3_000, 300, 42),
            TableSize("sales", "", "small", 15, 10, 5, 1),
        ]

    async def test_tables_are_so_many_of_each_database(self) -> None:
        sizes = await MongodbSession(RecordedDocuments(SIZES), 200).sizes(1)

        assert [table.table_name for table in sizes.tables] == ["orders"]

    async def test_questions_for_collections_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mongodb, "MOST_COLLECTIONS", 1)
        server = RecordedDocuments(SIZES)

        await MongodbSession(server, 200).sizes(5)

        assert [next(iter(command)) for command in server.asked] == ["listDatabases", "listCollections", "aggregate"]

    async def test_settings_hold_no_secret(self) -> None:
        server = RecordedDocuments({
            ("getParameter", "admin"): {
                "logLevel": 0,
                "notablescan": False,
                "featureCompatibilityVersion": {"version": "7.0"},
                "authenticationMechanisms": ["SCRAM-SHA-1", "SCRAM-SHA-256"],
                "somethingElse": PASSWORD,
                "ok": 1.0,
            },
            ("getCmdLineOpts", "admin"): {
                "argv": ["mongod", f"--tlsCertificateKeyFilePassword={PASSWORD}"],
                "parsed": {
                    "net": {"port": 27017, "tls": {"mode": "requireTLS", "certificateKeyFilePassword": PASSWORD}},
                    "security": {
                        "authorization": "enabled",
                        "keyFile": "/key",
                        "ldap": {"bind": {"queryPassword": PASSWORD}},
                    },
                    "storage": {"wiredTiger": {"engineConfig": {"cacheSizeGB": 4.0}}},
                },
            },
        })  # fmt: skip

        assert await MongodbSession(server, 200).settings() == {
            "logLevel": "0",
            "notablescan": "false",
            "featureCompatibilityVersion.version": "7.0",
            "authenticationMechanisms": "SCRAM-SHA-1, SCRAM-SHA-256",
            "net.port": "27017",
            "net.tls.mode": "requireTLS",
            "security.authorization": "enabled",
            "storage.wiredTiger.engineConfig.cacheSizeGB": "4.0",
        }


STATUS = {
    "set": "rs0",
    "myState": 2,
    "members": [
        {"name": "a:27017", "stateStr": "PRIMARY", "optimeDate": datetime(2026, 1, 1, 0, 0, 9, tzinfo=UTC)},
        {"name": "b:27017", "stateStr": "SECONDARY", "optimeDate": datetime(2026, 1, 1, tzinfo=UTC), "self": True},
    ],
}


async def member_of(hello: Mapping[str, Any], status: Any = STATUS) -> MongodbMember:
    server = RecordedDocuments({("hello", "admin"): hello, ("replSetGetStatus", "admin"): status})
    (member,) = await MongodbSession(server, 200).members()
    assert isinstance(member, MongodbMember)
    return member


class TestMembers:
    async def test_a_secondary_tells_its_source_and_lag(self) -> None:
        hello = {"setName": "rs0", "me": "b:27017", "primary": "a:27017", "isWritablePrimary": False, "secondary": True}

        assert await member_of(hello) == MongodbMember(
            role="secondary",
            replica_set_name="rs0",
            member_name="b:27017",
            source_host="a",
            source_port=27017,
            replication_state="SECONDARY",
            lag_seconds=9,
        )

    async def test_a_primary_has_no_source(self) -> None:
        status = {"members": [{**STATUS["members"][0], "self": True}]}
        hello = {"setName": "rs0", "me": "a:27017", "primary": "a:27017", "isWritablePrimary": True}

        assert await member_of(hello, status) == MongodbMember(
            role="primary", replica_set_name="rs0", member_name="a:27017", replication_state="PRIMARY"
        )

    @pytest.mark.parametrize(
        ("hello", "role"),
        [
            ({"msg": "isdbgrid", "isWritablePrimary": True}, "mongos"),
            ({"isWritablePrimary": True}, "standalone"),
            ({"setName": "rs0", "arbiterOnly": True}, "arbiter"),
        ],
    )
    async def test_roles(self, hello: Mapping[str, Any], role: str) -> None:
        assert (await member_of(hello)).role == role

    async def test_a_set_that_is_not_initiated_has_no_status(self) -> None:
        failure = ServerFailure(FailureKind.SERVER_ERROR, "no replset config", "", "94")

        assert (await member_of({"setName": "rs0", "secondary": True}, failure)).replication_state is None

    async def test_a_right_that_is_missing_is_told(self) -> None:
        failure = ServerFailure(FailureKind.PERMISSION_MISSING, "not authorized", "", "13")

        with pytest.raises(ServerFailure, match="not authorized"):
            await member_of({"setName": "rs0", "secondary": True}, failure)


CHECKED = {"buildInfo": {"version": "7.0.12"}}


async def checked(port: int, **changes: Any) -> str:
    async with adapter.connect(a_target(DatabaseType.MONGODB, port, **changes)) as session:
        return (await session.check()).version


async def failure_of(port: int, **changes: Any) -> ServerFailure:
    with pytest.raises(ServerFailure) as caught:
        await checked(port, **changes)
    assert PASSWORD not in f"{caught.value!r} {caught.value.message} {caught.value.hint}"
    return caught.value


def a_context(authority: CertificateAuthority, host: str) -> ssl.SSLContext:
    files = authority.issue(host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


class TestConnecting:
    def test_is_the_registered_adapter(self) -> None:
        assert adapter_of(DatabaseType.MONGODB) is adapter

    async def test_signs_in_and_asks_with_a_time_limit(self) -> None:
        server = MongoServer(PASSWORD, CHECKED)
        async with listening(server) as port:
            assert await checked(port) == "7.0.12"

        (asked,) = [command for command in server.commands if "buildInfo" in command]
        assert asked["maxTimeMS"] == 10_000

    async def test_the_user_is_looked_for_in_the_instance_s_database(self) -> None:
        server = MongoServer(PASSWORD, CHECKED)
        async with listening(server) as port:
            assert await checked(port, database_name="sales") == "7.0.12"

    async def test_follows_no_member_that_the_server_names(self) -> None:
        met: list[object] = []

        async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            met.append(reader)

        async with listening(elsewhere) as other:
            place = f"localhost:{other}"
            hello = {"setName": "rs0", "hosts": [place], "primary": place, "me": place, "isWritablePrimary": False,
                     "ismaster": False, "secondary": True}  # fmt: skip
            async with listening(MongoServer(PASSWORD, CHECKED, hello)) as port:
                assert await checked(port) == "7.0.12"
                await asyncio.sleep(0.2)

        assert met == []

    async def test_tls_is_verified_for_the_host(self, tmp_path: Path) -> None:
        authority = CertificateAuthority(tmp_path)
        changes = {"tls_mode": TlsMode.VERIFY_FULL, "tls_ca_file": authority.file}
        async with listening(MongoServer(PASSWORD, CHECKED), a_context(authority, HOST)) as port:
            assert await checked(port, **changes) == "7.0.12"
        async with listening(MongoServer(PASSWORD, CHECKED), a_context(authority, "127.0.0.1")) as port:
            failure = await failure_of(port, **changes)

        assert failure.kind is FailureKind.TLS
        assert HOST in failure.hint

    async def test_the_driver_itself_verifies_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not only the connection that is tried before."""
        authority = CertificateAuthority(tmp_path)

        async def tried(target: Any) -> Any:
            return "127.0.0.1", client_context(target)

        monkeypatch.setattr(mongodb_connection, "_tried", tried)
        async with listening(MongoServer(PASSWORD, CHECKED), a_context(authority, "127.0.0.1")) as port:
            failure = await failure_of(port, tls_mode=TlsMode.VERIFY_FULL, tls_ca_file=authority.file)

        assert failure.kind is FailureKind.TLS

    async def test_require_is_refused_by_a_server_without_tls(self) -> None:
        async with listening(closing_on_tls(MongoServer(PASSWORD, CHECKED))) as port:
            assert (await failure_of(port, tls_mode=TlsMode.REQUIRE)).kind in (FailureKind.TLS, FailureKind.CLOSED)

    async def test_prefer_takes_what_there_is(self, tmp_path: Path) -> None:
        context = a_context(CertificateAuthority(tmp_path), HOST)
        async with listening(MongoServer(PASSWORD, CHECKED), context) as port:
            assert await checked(port, tls_mode=TlsMode.PREFER) == "7.0.12"
        async with listening(closing_on_tls(MongoServer(PASSWORD, CHECKED))) as port:
            assert await checked(port, tls_mode=TlsMode.PREFER) == "7.0.12"

    async def test_the_next_address_is_tried(self) -> None:
        async with listening(MongoServer(PASSWORD, CHECKED)) as port:
            assert await checked(port, addresses=("127.0.0.9", "127.0.0.1")) == "7.0.12"


def closing_on_tls(server: MongoServer) -> Any:
    """As mongod without TLS does, on what begins a handshake."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        if first == b"\x16":
            return
        rest = asyncio.StreamReader()
        rest.feed_data(first)
        pump = asyncio.create_task(pumped(reader, rest))
        try:
            await server(rest, writer)
        finally:
            pump.cancel()

    return handle


async def pumped(reader: asyncio.StreamReader, into: asyncio.StreamReader) -> None:
    while received := await reader.read(65536):
        into.feed_data(received)
    into.feed_eof()


class TestFailures:
    async def test_a_wrong_password(self) -> None:
        async with listening(MongoServer("another", CHECKED)) as port:
            failure = await failure_of(port)

        assert (failure.kind, failure.server_code) == (FailureKind.SIGN_IN_REFUSED, "18")

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (13, FailureKind.PERMISSION_MISSING),
            (50, FailureKind.TIMED_OUT),
            (11600, FailureKind.CLOSED),
            (59, FailureKind.SERVER_ERROR),
        ],
    )
    async def test_of_a_command(self, code: int, kind: FailureKind) -> None:
        answer = {"buildInfo": {"ok": 0.0, "code": code, "codeName": "x", "errmsg": f"it said {PASSWORD}"}}
        async with listening(MongoServer(PASSWORD, answer)) as port:
            failure = await failure_of(port)

        assert failure.kind is kind

    async def test_a_server_that_is_too_old(self) -> None:
        hello = {"maxWireVersion": 5}
        async with listening(MongoServer(PASSWORD, CHECKED, hello)) as port:
            assert (await failure_of(port)).kind is FailureKind.SERVER_ERROR

    async def test_nobody_listens(self) -> None:
        began = time.monotonic()

        assert (await failure_of(free_port())).kind is FailureKind.REFUSED
        assert time.monotonic() - began < 5

    async def test_closes_at_once(self) -> None:
        began = time.monotonic()
        async with listening(closing) as port:
            assert (await failure_of(port)).kind is FailureKind.CLOSED
        assert time.monotonic() - began < 5

    async def test_answers_garbage(self) -> None:
        async with listening(garbage) as port:
            assert (await failure_of(port)).kind in (FailureKind.PROTOCOL, FailureKind.CLOSED)

    async def test_accepts_and_never_answers(self) -> None:
        began = time.monotonic()
        async with listening(silent) as port:
            assert (await failure_of(port, connect_seconds=0.3)).kind is FailureKind.TIMED_OUT
        assert time.monotonic() - began < 5

    async def test_hangs_in_an_answer(self) -> None:
        async with listening(MongoServer(PASSWORD, {"buildInfo": None})) as port:
            failure = await failure_of(port, statement_seconds=0.2)

        assert failure.kind is FailureKind.TIMED_OUT
