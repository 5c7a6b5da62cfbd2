"""Which addresses may be connected to, however they are written and whatever leads to them."""

import socket
import time
from ipaddress import IPv6Address

import pytest

from app.config import Settings
from app.syncs.addresses import MAX_ADDRESSES, AddressPolicy
from app.syncs.failures import FailureKind, ServerFailure


def policy(**settings: str | float) -> AddressPolicy:
    return AddressPolicy(Settings(**settings))


async def refusal(which: AddressPolicy, host: str) -> ServerFailure:
    with pytest.raises(ServerFailure) as raised:
        await which.resolve(host, 5432)
    return raised.value


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What the resolver knows: addresses by name. Names that it does not know are looked up for real."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def lookup(host: str, port: int, *arguments: int, **more: int) -> list[tuple[object, ...]]:
        if host not in known:
            return real(host, port, *arguments, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return known


METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
]
NOBODYS = ["0.0.0.0", "0.1.2.3", "169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255", "::"]
LOOPBACK = ["127.0.0.1", "127.255.255.254", "::1"]


class TestByDefault:
    @pytest.mark.parametrize(
        "address", ["10.0.0.5", "192.168.1.1", "203.0.113.9", "2001:db8::7", "fd12::1", "100.100.100.201"]
    )
    async def test_servers_in_private_and_public_networks_are_allowed(self, address: str) -> None:
        assert await policy().resolve(address, 5432) == (address,)

    @pytest.mark.parametrize("address", [*METADATA, *NOBODYS, *LOOPBACK])
    async def test_what_is_no_database_server_is_denied(self, address: str) -> None:
        found = await refusal(policy(), address)
        assert found.kind is FailureKind.ADDRESS_DENIED
        assert address in found.message

    @pytest.mark.parametrize("inner", ["169.254.169.254", "127.0.0.1", "168.63.129.16"])
    @pytest.mark.parametrize("clothes", ["::ffff:{}", "::{}", "64:ff9b::{}"])
    async def test_a_denied_address_in_ipv6s_clothes_is_denied(self, inner: str, clothes: str) -> None:
        assert (await refusal(policy(), clothes.format(inner))).kind is FailureKind.ADDRESS_DENIED

    async def test_so_are_tunnels_to_one(self) -> None:
        six_to_four = "2002:a9fe:a9fe::1"
        # Teredo holds the client's address with every bit inverted.
        teredo = str(IPv6Address((0x20010000 << 96) | (0x41424344 << 64) | (0xA9FEA9FE ^ 0xFFFFFFFF)))
        for address in (six_to_four, teredo):
            assert (await refusal(policy(), address)).kind is FailureKind.ADDRESS_DENIED

    async def test_a_mapped_address_is_connected_to_as_what_it_is(self) -> None:
        assert await policy().resolve("::ffff:10.0.0.5", 5432) == ("10.0.0.5",)


class TestSpellings:
    @pytest.mark.parametrize(
        "host",
        ["127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "0", "localhost", "127.0.0.1.", "localhost."],
    )
    async def test_that_mean_loopback_are_denied(self, host: str) -> None:
        assert (await refusal(policy(), host)).kind in {FailureKind.ADDRESS_DENIED, FailureKind.NAME_NOT_FOUND}

    @pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433"])
    async def test_are_understood_as_the_resolver_does(self, host: str) -> None:
        assert (await refusal(policy(), host)).kind is FailureKind.ADDRESS_DENIED
        assert await policy(allow_loopback="on").resolve(host, 5432) == ("127.0.0.1",)

    @pytest.mark.parametrize("host", ["fe80::1%lo", "fe80::1%1", "::1%lo", "::ffff:127.0.0.1%lo"])
    async def test_with_zones_are_judged_without(self, host: str) -> None:
        assert (await refusal(policy(), host)).kind is FailureKind.ADDRESS_DENIED


class TestConfiguration:
    async def test_loopback_can_be_allowed(self) -> None:
        for address in LOOPBACK:
            assert await policy(allow_loopback="on").resolve(address, 5432) == (address,)

    async def test_allowing_loopback_allows_nothing_else(self) -> None:
        for address in [*METADATA, *NOBODYS]:
            assert (await refusal(policy(allow_loopback="on"), address)).kind is FailureKind.ADDRESS_DENIED

    async def test_only_allowed_networks_when_there_are_any(self) -> None:
        which = policy(allowed_networks="10.0.0.0/8, 2001:db8::/32")
        assert await which.resolve("10.9.9.9", 5432) == ("10.9.9.9",)
        assert await which.resolve("2001:db8::1", 5432) == ("2001:db8::1",)
        assert await which.resolve("::ffff:10.9.9.9", 5432) == ("10.9.9.9",)
        found = await refusal(which, "192.168.0.1")
        assert "MUSTER_ALLOWED_NETWORKS" in found.message

    async def test_a_denial_wins(self) -> None:
        which = policy(allowed_networks="10.0.0.0/8", denied_networks="10.1.0.0/16")
        assert await which.resolve("10.2.0.1", 5432) == ("10.2.0.1",)
        assert "MUSTER_DENIED_NETWORKS" in (await refusal(which, "10.1.0.1")).message

    async def test_allowing_everything_does_not_allow_metadata(self) -> None:
        which = policy(allowed_networks="0.0.0.0/0, ::/0")
        for address in [*METADATA, *LOOPBACK]:
            assert (await refusal(which, address)).kind is FailureKind.ADDRESS_DENIED

    async def test_loopback_needs_to_be_allowed_by_both_where_networks_are_listed(self) -> None:
        assert await policy(allow_loopback="on", allowed_networks="127.0.0.0/8").resolve("127.0.0.1", 1) == (
            "127.0.0.1",
        )
        elsewhere = policy(allow_loopback="on", allowed_networks="10.0.0.0/8")
        assert (await refusal(elsewhere, "127.0.0.1")).kind is FailureKind.ADDRESS_DENIED

    async def test_denied_networks_cover_what_translators_pass_on(self) -> None:
        which = policy(denied_networks="10.0.0.0/8")
        for address in ("64:ff9b::10.0.0.1", "2002:a00:1::", "::ffff:10.0.0.1"):
            assert (await refusal(which, address)).kind is FailureKind.ADDRESS_DENIED


class TestNames:
    async def test_only_allowed_addresses_are_kept_in_the_resolvers_order(self, names: dict[str, list[str]]) -> None:
        names["db.test"] = ["10.0.0.9", "169.254.169.254", "2001:db8::1", "10.0.0.9", "10.0.0.1"]
        assert await policy().resolve("db.test", 5432) == ("10.0.0.9", "2001:db8::1", "10.0.0.1")

    async def test_that_lead_to_denied_addresses_only_are_refused(self, names: dict[str, list[str]]) -> None:
        names["metadata.test"] = ["169.254.169.254"]
        found = await refusal(policy(), "metadata.test")
        assert found.kind is FailureKind.ADDRESS_DENIED
        assert "metadata.test leads to 169.254.169.254" in found.message

    async def test_are_looked_up_once(self, names: dict[str, list[str]]) -> None:
        """What is connected to is what was judged, whatever the name leads to a moment later."""
        names["rebinding.test"] = ["10.0.0.1"]
        addresses = await policy().resolve("rebinding.test", 5432)
        names["rebinding.test"] = ["127.0.0.1"]
        assert addresses == ("10.0.0.1",)

    async def test_with_many_addresses_have_some_tried(self, names: dict[str, list[str]]) -> None:
        names["many.test"] = [f"10.0.0.{n}" for n in range(1, 200)]
        assert len(await policy().resolve("many.test", 5432)) == MAX_ADDRESSES

    async def test_without_addresses_are_not_found(self, names: dict[str, list[str]]) -> None:
        names["empty.test"] = []
        assert (await refusal(policy(), "empty.test")).kind is FailureKind.NAME_NOT_FOUND

    @pytest.mark.parametrize("host", ["a" * 64 + ".test", "nul\0.test", "a..test"])
    async def test_that_are_none_are_not_found(self, host: str) -> None:
        assert (await refusal(policy(), host)).kind is FailureKind.NAME_NOT_FOUND

    @pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL])
    async def test_that_the_resolver_does_not_find(self, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        def lookup(*_arguments: object, **_more: object) -> None:
            raise socket.gaierror(code, "said the resolver")

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        found = await refusal(policy(), "missing.test")
        assert found.kind is FailureKind.NAME_NOT_FOUND
        assert found.message == "missing.test: said the resolver"

    async def test_that_take_too_long_are_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_more: time.sleep(1))
        started = time.monotonic()
        assert (await refusal(policy(sync_connect_seconds=0.1), "slow.test")).kind is FailureKind.TIMED_OUT
        assert time.monotonic() - started < 0.9
