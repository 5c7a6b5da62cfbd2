"""What the adapter finds on a real Redis, with an account that has the documented rules and no more."""

import asyncio

import pytest
from redis.asyncio import Redis

from app.inventory.records import RedisMember
from app.syncs.adapters.port import ServerSession
from app.syncs.adapters.redis import adapter
from app.syncs.adapters.redis_settings import SETTINGS
from tests.postgres_server import free_port
from tests.syncs.adapters.redis_targets import run, target_of
from tests.syncs.servers import ROOT_PASSWORD, RedisServer


@pytest.fixture
def session(redis_session: ServerSession) -> ServerSession:
    return redis_session


class TestCheck:
    async def test_tells_the_version_and_the_round_trip(self, session: ServerSession) -> None:
        check = await session.check()
        assert check.version.split(".")[0].isdigit()
        assert 0 < check.round_trip_seconds < 5

    async def test_says_who_it_is(self, session: ServerSession, redis_server: RedisServer) -> None:
        async with Redis(port=redis_server.port, password=ROOT_PASSWORD) as client:
            names = [(each["name"], each["user"]) for each in await client.client_list()]
        assert ("muster", "muster") in names


class TestDatabasesAndSizes:
    async def test_keyspaces_that_hold_keys(self, session: ServerSession, redis_server: RedisServer) -> None:
        before = [each.name for each in await session.databases()]
        await run(redis_server, ("SET", "k", "v"), database=11)
        await run(redis_server, ("SET", "k", "v"), database=2)
        during = [each.name for each in await session.databases()]
        await run(redis_server, ("DEL", "k"), database=11)
        await run(redis_server, ("DEL", "k"), database=2)
        assert before == ["db0"]
        assert during == ["db0", "db2", "db11"]

    async def test_the_size_is_the_servers_memory(self, session: ServerSession, redis_server: RedisServer) -> None:
        before = await session.sizes(20)
        await run(redis_server, ("SET", "big", "x" * 5_000_000))
        after = await session.sizes(20)
        await run(redis_server, ("DEL", "big"))
        assert [each.name for each in after.databases] == ["used_memory"]
        assert after.tables == ()
        assert after.total_bytes - before.total_bytes > 4_000_000
        assert (after.databases[0].data_bytes or 0) > 4_000_000


class TestSettingsAndMembers:
    async def test_settings_that_matter_and_no_secrets(self, session: ServerSession) -> None:
        settings = await session.settings()
        assert settings["maxmemory-policy"] == "noeviction"
        assert settings["appendonly"] == "no"
        assert ROOT_PASSWORD not in str(settings)
        assert not {"requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass"} & set(SETTINGS)

    async def test_where_config_may_not_be_asked_info_tells_some(
        self, session: ServerSession, redis_server: RedisServer
    ) -> None:
        full = await session.settings()
        await run(redis_server, ("ACL", "SETUSER", "hosted", "on", ">hosted", "+info", "+ping"))
        async with adapter.connect(target_of(redis_server, "hosted", "hosted")) as hosted:
            some = await hosted.settings()
        await run(redis_server, ("ACL", "DELUSER", "hosted"))
        assert {"maxmemory", "maxmemory-policy", "appendonly", "maxclients", "cluster-enabled"} <= set(some)
        assert some.items() <= full.items()

    async def test_a_server_by_itself(self, session: ServerSession) -> None:
        (member,) = await session.members()
        assert isinstance(member, RedisMember)
        assert (member.mode, member.role, member.replica_count) == ("standalone", "primary", 0)
        assert len(member.replication_id or "") == 40

    async def test_a_replica(self, session: ServerSession, redis_server: RedisServer) -> None:
        copy = RedisServer()
        try:
            copy.start("--replicaof", f"127.0.0.1 {redis_server.port}", "--masterauth", ROOT_PASSWORD)
            async with adapter.connect(target_of(copy, "default", ROOT_PASSWORD)) as at_copy:
                replica = await _linked(at_copy)
            (primary,) = await session.members()
        finally:
            copy.remove()
        assert isinstance(primary, RedisMember)
        assert (replica.role, replica.source_host, replica.source_port) == ("replica", "127.0.0.1", redis_server.port)
        assert (replica.replication_state, primary.replica_count) == ("up", 1)
        assert replica.lag_seconds is not None
        assert replica.replication_id == primary.replication_id

    async def test_a_node_of_a_cluster(self) -> None:
        node = RedisServer()
        try:
            # By default it is 10,000 above the other, which may be too high.
            node.start("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
            async with adapter.connect(target_of(node, "default", ROOT_PASSWORD)) as session:
                (member,) = await session.members()
        finally:
            node.remove()
        assert isinstance(member, RedisMember)
        assert member.mode == "cluster"
        assert len(member.node_id or "") == 40


async def _linked(session: ServerSession) -> RedisMember:
    for _ in range(200):
        (member,) = await session.members()
        assert isinstance(member, RedisMember)
        if member.replication_state == "up":
            break
        await asyncio.sleep(0.05)
    return member
