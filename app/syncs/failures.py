"""Why a server could not be connected to or asked, classified the same for every database type."""

from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    NAME_NOT_FOUND = "name_not_found"
    ADDRESS_DENIED = "address_denied"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    # The server went away, at once or in the middle.
    CLOSED = "closed"
    TLS = "tls"
    # It answers, but not as a server of this type does.
    PROTOCOL = "protocol"
    SIGN_IN_REFUSED = "sign_in_refused"
    DATABASE_MISSING = "database_missing"
    PERMISSION_MISSING = "permission_missing"
    # Whatever else the server says.
    SERVER_ERROR = "server_error"
    DRIVER_MISSING = "driver_missing"
    CREDENTIAL_UNREADABLE = "credential_unreadable"
    # Not tried, because the endpoint kept failing a moment ago.
    CIRCUIT_OPEN = "circuit_open"

    @property
    def is_unreachable(self) -> bool:
        """Whether it tells that nobody reaches the endpoint, whoever asks for whatever."""
        return self in _unreachable


_unreachable = frozenset({
    FailureKind.NAME_NOT_FOUND, FailureKind.REFUSED, FailureKind.TIMED_OUT, FailureKind.CLOSED, FailureKind.PROTOCOL,
})  # fmt: skip


# Not frozen: contextlib gives an exception that passes through a block its traceback back, which must be possible.
@dataclass(slots=True, unsafe_hash=True)
class ServerFailure(Exception):
    """An expected one: it becomes the item's error. `message` is the server's or the system's, without secrets;
    `hint` says what to look at; `server_code` is SQLSTATE or the server's error number."""

    kind: FailureKind
    message: str
    hint: str
    server_code: str | None = None

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.message}"
