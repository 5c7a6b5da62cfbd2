"""Accounts of a real Redis and their rules, read by an account that has the documented rules and no more."""

import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from app.syncs.adapters.port import ServerSession
from app.syncs.adapters.redis import adapter
from app.syncs.adapters.redis_accounts import account_of
from app.syncs.failures import FailureKind, ServerFailure
from tests.syncs.adapters.redis_targets import account, run, target_of
from tests.syncs.servers import ROOT_PASSWORD, RedisServer


@pytest.fixture
def session(redis_session: ServerSession) -> ServerSession:
    return redis_session


@pytest.fixture
async def ann(redis_server: RedisServer) -> AsyncIterator[str]:
    await run(redis_server, ("ACL", "SETUSER", "ann", "on", ">ann-secret", ">another"))
    yield "ann"
    await run(redis_server, ("ACL", "DELUSER", "ann"))


class TestAccounts:
    async def test_an_account_that_may_do_nothing(self, session: ServerSession, ann: str) -> None:
        found = await account(session, ann)
        assert (found.host, found.is_superuser, found.can_login, found.is_locked) == ("", False, True, False)
        assert found.authentication_method == "password"
        assert found.attributes["password_count"] == 2
        assert found.permissions.global_privileges == []
        assert found.permissions.object_privileges == {}

    async def test_the_default_user_is_a_superuser(self, session: ServerSession) -> None:
        found = await account(session, "default")
        assert found.is_superuser
        assert found.permissions.global_privileges == ["@all"]
        assert found.permissions.object_privileges == {"~*": ["READ", "WRITE"], "&*": ["PUBLISH", "SUBSCRIBE"]}

    async def test_granted_and_revoked_rules(self, session: ServerSession, redis_server: RedisServer, ann: str) -> None:
        await run(
            redis_server,
            ("ACL", "SETUSER", ann, "+@read", "-get", "+config|get", "~cache:*", "%R~log:*", "&news.*"),
        )
        granted = await account(session, ann)
        await run(redis_server, ("ACL", "SETUSER", ann, "-@read", "resetkeys", "resetchannels", "off", "resetpass"))
        revoked = await account(session, ann)
        assert granted.permissions.global_privileges == ["-get", "@read", "config|get"]
        assert granted.permissions.object_privileges == {
            "&news.*": ["PUBLISH", "SUBSCRIBE"],
            "~cache:*": ["READ", "WRITE"],
            "~log:*": ["READ"],
        }
        assert granted.attributes["commands"] == "-@all +@read +config|get -get"
        assert revoked.permissions.object_privileges == {}
        assert "@read" not in revoked.permissions.global_privileges
        assert (revoked.is_locked, revoked.can_login, revoked.authentication_method) == (True, False, None)

    async def test_selectors(self, session: ServerSession, redis_server: RedisServer, ann: str) -> None:
        selectors = ("(%R~foo:* &news +get)", "(~a(b) ~c) +@write -del)")
        await run(redis_server, ("ACL", "SETUSER", ann, *selectors))
        found = await account(session, ann)
        assert found.permissions.object_privileges == {
            "(%R~foo:* &news)": ["get"],
            "(~a(b) ~c))": ["-del", "@write"],
        }
        assert found.permissions.global_privileges == []
        assert found.attributes["selectors"] == ["%R~foo:* &news -@all +get", "~a(b) ~c) -@all +@write -del"]

    @pytest.mark.parametrize(
        ("rules", "is_superuser"),
        [
            (("+@all", "~*"), True),
            (("+@all", "-debug", "~*"), True),
            (("+@all", "-@dangerous", "~*"), False),
            (("+@all", "-acl", "~*"), False),
            (("+@all", "~only:*"), False),
            (("+@read", "~*"), False),
        ],
    )
    async def test_superusers(
        self, session: ServerSession, redis_server: RedisServer, ann: str, rules: tuple[str, ...], is_superuser: bool
    ) -> None:
        await run(redis_server, ("ACL", "SETUSER", ann, *rules))
        assert (await account(session, ann)).is_superuser is is_superuser

    async def test_an_account_without_a_password(self, session: ServerSession, redis_server: RedisServer) -> None:
        await run(redis_server, ("ACL", "SETUSER", "open", "on", "nopass"))
        found = await account(session, "open")
        await run(redis_server, ("ACL", "DELUSER", "open"))
        assert (found.can_login, found.authentication_method) == (True, "nopass")

    @pytest.mark.parametrize(
        "name", ["o'brien\"x", "emoji🐘", "数据库账户管理员" * 8, "semi;colon", "a(b)", "#hash", "~k"]
    )
    async def test_strange_names(self, session: ServerSession, redis_server: RedisServer, name: str) -> None:
        await run(redis_server, ("ACL", "SETUSER", name, "on", f"~{name}:*", "+get"))
        found = await account(session, name)
        await run(redis_server, ("ACL", "DELUSER", name))
        assert found.permissions.object_privileges == {f"~{name}:*": ["READ", "WRITE"]}
        assert name not in [each.username for each in await session.accounts()]

    async def test_no_hash_leaves_the_server(self, session: ServerSession, ann: str) -> None:
        found = repr(await session.accounts())
        assert hashlib.sha256(b"ann-secret").hexdigest() not in found
        assert hashlib.sha256(ROOT_PASSWORD.encode()).hexdigest() not in found

    async def test_without_the_right_the_failure_says_which(self, redis_server: RedisServer) -> None:
        await run(redis_server, ("ACL", "SETUSER", "bare", "on", ">bare", "+ping", "+info"))
        try:
            async with adapter.connect(target_of(redis_server, "bare", "bare")) as session:
                with pytest.raises(ServerFailure) as caught:
                    await session.accounts()
                # The session goes on after a refusal.
                assert (await session.check()).version
        finally:
            await run(redis_server, ("ACL", "DELUSER", "bare"))
        assert (caught.value.kind, caught.value.server_code) == (FailureKind.PERMISSION_MISSING, "NOPERM")
        assert "ACL SETUSER bare +acl|list" in caught.value.hint

    async def test_five_thousand_accounts(self, redis_server: RedisServer) -> None:
        names = [f"crowd{number}" for number in range(5000)]
        async with Redis(port=redis_server.port, password=ROOT_PASSWORD) as client:
            async with client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.execute_command("ACL", "SETUSER", name, "on", ">x", f"~{name}:*", "+@read")
                await pipeline.execute()
            target = replace(target_of(redis_server, "default", ROOT_PASSWORD), statement_seconds=60)
            async with adapter.connect(target) as session:
                began = time.perf_counter()
                found = await session.accounts()
                seconds = time.perf_counter() - began
            await client.execute_command("ACL", "DELUSER", *names)
        assert len([each for each in found if each.username.startswith("crowd")]) == 5000
        assert seconds < 20

    def test_the_order_of_single_commands_is_no_change(self) -> None:
        one = account_of("user a on -@all +@read +get -set +config|get -@admin")
        other = account_of("user a on -@all +@read -set +config|get +get -@admin")
        assert one == other
        moved = account_of("user a on -@all -@admin +@read +get -set +config|get")
        assert moved is not None
        assert moved != one

    def test_lines_of_other_releases(self) -> None:
        valkey = account_of("user bob on #" + "a" * 64 + " ~* resetchannels db=0,1 -@all +get")
        assert valkey is not None
        assert valkey.attributes["other_rules"] == ["db=0,1"]
        assert "aaaa" not in repr(valkey)
        assert account_of("what is this") is None
        assert account_of("") is None
