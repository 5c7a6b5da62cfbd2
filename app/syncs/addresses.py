"""Which addresses the service may connect to. Users name the servers, so a name could be anybody's: the service's own
machine, the cloud's metadata, a neighbour that trusts this network.

1. A name is resolved once, and every address that it has is judged, so that no spelling (`127.1`, `0x7f000001`, a name
   that leads to a forbidden address) gets around.
2. An address passes when nothing denies it, and, where networks are listed as allowed, one of them holds it. A denial
   wins over whatever allows.
3. Adapters connect to the addresses that passed and resolve nothing again, so that a name cannot lead elsewhere between
   the look and the connection.
"""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from app.config import Settings, listed
from app.syncs.failures import FailureKind, ServerFailure

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Lookups at once. They have threads of their own: one that hangs must hold up no other work, and few other lookups.
RESOLVER_THREADS = 32
# Of one name; a name with more would only be tried for longer.
MAX_ADDRESSES = 16

# No database server is at any of these, whatever is configured.
_NEVER: Sequence[tuple[Network, str]] = (
    # https://www.iana.org/assignments/iana-ipv4-special-registry, and the same for IPv6.
    (ip_network("0.0.0.0/8"), "this machine (RFC 1122)"),
    (ip_network("192.0.0.0/24"), "kept for protocols (RFC 6890), and where Oracle's older cloud has metadata"),
    (ip_network("224.0.0.0/4"), "multicast"),
    (ip_network("240.0.0.0/4"), "reserved, or broadcast"),
    (ip_network("::/128"), "this machine"),
    (ip_network("ff00::/8"), "multicast"),
    # Link-local is also where AWS, Azure, Google, Oracle and most others have their metadata (169.254.169.254), and
    # AWS the credentials of containers (169.254.170.2).
    (ip_network("169.254.0.0/16"), "link-local, where clouds keep metadata and credentials"),
    (ip_network("fe80::/10"), "link-local"),
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html (fd00:ec2::254)
    (ip_network("fd00:ec2::/32"), "metadata of AWS"),
    # https://docs.cloud.google.com/compute/docs/metadata/querying-metadata
    (ip_network("fd20:ce::254/128"), "metadata of Google Cloud"),
    # https://docs.oracle.com/en-us/iaas/Content/Compute/Tasks/gettingmetadata.htm
    (ip_network("fd00:c1::a9fe:a9fe/128"), "metadata of Oracle Cloud"),
    # https://www.alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
    (ip_network("100.100.100.200/32"), "metadata of Alibaba Cloud"),
    # https://www.scaleway.com/en/docs/instances/how-to/use-cloud-init and https://techdocs.akamai.com/cloud-computing
    (ip_network("fd00:42::42/128"), "metadata of Scaleway"),
    (ip_network("fd00:a9fe:a9fe::1/128"), "metadata of Akamai"),
    # https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16
    (ip_network("168.63.129.16/32"), "Azure's own services"),
)  # fmt: skip

_LOOPBACK: Sequence[tuple[Network, str]] = (
    (ip_network("127.0.0.0/8"), "loopback, which MUSTER_ALLOW_LOOPBACK=on allows"),
    (ip_network("::1/128"), "loopback, which MUSTER_ALLOW_LOOPBACK=on allows"),
)

# The well-known prefix of translators (RFC 6052), and the form that is no longer used but still understood (RFC 4291).
_NAT64 = ip_network("64:ff9b::/96")
_IPV4_COMPATIBLE = ip_network("::/96")


class AddressPolicy:
    """As configured; one for the process's life."""

    def __init__(self, settings: Settings) -> None:
        self._denied = [*_NEVER, *(() if settings.allow_loopback == "on" else _LOOPBACK)]
        self._denied += [(network, "in MUSTER_DENIED_NETWORKS") for network in _networks(settings.denied_networks)]
        self._allowed = _networks(settings.allowed_networks)
        self._seconds = settings.sync_connect_seconds
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolver")

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """The addresses of the host that may be connected to, in the resolver's order, each once.

        Those that may not are left out; nothing connects to them. Raises ServerFailure when none is left
        (ADDRESS_DENIED), when the name does not exist (NAME_NOT_FOUND), or when nobody tells in time (TIMED_OUT)."""
        addresses = [_as_connected_to(address) for address in await self._addresses(host, port)]
        allowed = [str(address) for address in addresses if self._denial(address) is None]
        if not allowed:
            raise self._refusal(host, addresses)
        return tuple(dict.fromkeys(allowed))[:MAX_ADDRESSES]

    async def _addresses(self, host: str, port: int) -> list[Address]:
        try:
            # Not worth a thread, and the most usual spelling by far.
            return [ip_address(_without_zone(host))]
        except ValueError:
            pass
        return [ip_address(_without_zone(found)) for found in await self._looked_up(host, port)]

    async def _looked_up(self, host: str, port: int) -> list[str]:
        looking = asyncio.get_running_loop().run_in_executor(self._threads, _getaddrinfo, host, port)
        try:
            async with asyncio.timeout(self._seconds):
                return await looking
        except TimeoutError as error:
            message = f"{host} could not be resolved within {self._seconds:g} s"
            raise ServerFailure(FailureKind.TIMED_OUT, message, "look at the service's own DNS") from error
        except (OSError, ValueError) as error:
            # ValueError is a name that cannot even be asked for, such as one with a label of 64 characters.
            raise _not_found(host, error) from error

    def _denial(self, address: Address) -> str | None:
        """Why it may not be connected to; None when it may."""
        for form in (address, *_embedded(address)):
            for network, reason in self._denied:
                if form in network:
                    return reason
        if self._allowed and not any(address in network for network in self._allowed):
            return "not in MUSTER_ALLOWED_NETWORKS"
        return None

    def _refusal(self, host: str, addresses: Sequence[Address]) -> ServerFailure:
        if not addresses:
            return _not_found(host, OSError("it has no address"))
        found = f"{host} is" if host == str(addresses[0]) else f"{host} leads to {addresses[0]}, which is"
        message = f"{found} not an address to connect to: {self._denial(addresses[0])}"
        hint = "register another address, or let an administrator change MUSTER_ALLOWED_NETWORKS or _DENIED_NETWORKS"
        return ServerFailure(FailureKind.ADDRESS_DENIED, message, hint)


def _getaddrinfo(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _not_found(host: str, error: Exception) -> ServerFailure:
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        hint = "the resolver gave no answer; look at the service's own DNS, then at the name"
    else:
        hint = "look at the name's spelling, and whether the service's own DNS knows it"
    reason = getattr(error, "strerror", None) or str(error)
    return ServerFailure(FailureKind.NAME_NOT_FOUND, f"{host}: {reason}", hint)


def _networks(setting: str) -> list[Network]:
    return [ip_network(each) for each in listed(setting)]


def _without_zone(address: str) -> str:
    # `fe80::1%eth0`; a zone makes no address another one, as far as it is judged.
    return address.partition("%")[0]


def _as_connected_to(address: Address) -> Address:
    """An IPv4 address in IPv6's clothes (`::ffff:10.0.0.5`) is connected to as IPv4, and allowed as that."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that a router or translator may send packets on to."""
    if isinstance(address, IPv4Address):
        return
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64 or (address in _IPV4_COMPATIBLE and int(address) > 1):
        yield IPv4Address(int(address) & 0xFFFF_FFFF)
