"""What an adapter of a database type must be: how the service connects to a server of that type, and what it asks.

Nothing an adapter does changes the server: its session is read-only where the server knows that, every statement has a
time limit, and what it needs is documented as the least privileges. Everything it raises is a ServerFailure; no error
of a driver comes through, and none with a secret in it. It touches no database of ours.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from app.capacity.records import Sizes
from app.inventory.records import FoundAccount, FoundDatabase, Member
from app.models.instance import DatabaseType, TlsMode


@dataclass(frozen=True, slots=True)
class Target:
    """A server as it is to be connected to. `addresses` are what `host` resolved to and what was found allowed, to be
    tried in order; an adapter connects to these and never resolves by itself, and verifies certificates for `host`."""

    db_type: DatabaseType
    host: str
    port: int
    addresses: tuple[str, ...]
    database_name: str | None
    username: str
    password: SecretStr
    tls_mode: TlsMode
    # PEM; None is the system's own authorities.
    tls_ca_file: Path | None = None
    connect_seconds: float = 10.0
    statement_seconds: float = 60.0
    # At most so many databases are connected to one after the other, where a session sees one only.
    max_databases: int = 200


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """`version` as the server writes it, at most 100 characters; `round_trip_seconds` of one trivial question."""

    version: str
    round_trip_seconds: float


class ServerSession(Protocol):
    """A connection that is signed in. Calls come one after the other."""

    async def check(self) -> ServerCheck: ...

    async def accounts(self) -> Sequence[FoundAccount]:
        """Every account with its rights, in a fixed number of questions, whatever the number of accounts."""
        ...

    async def databases(self) -> Sequence[FoundDatabase]: ...

    async def sizes(self, largest_tables: int) -> Sizes:
        """With the so many largest tables of each database."""
        ...

    async def settings(self) -> Mapping[str, str]:
        """Those that matter, by the server's own names; no secrets among them."""
        ...

    async def members(self) -> Sequence[Member]:
        """The server's places in replication and clusters."""
        ...


class Adapter(Protocol):
    """Of one database type; without state, so that one serves every server."""

    def connect(self, target: Target) -> AbstractAsyncContextManager[ServerSession]:
        """Signs in, and out again at the block's end, which takes no longer than a moment whatever the server does.

        Raises ServerFailure, as does everything in the block."""
        ...
