"""What errors of a MySQL or MariaDB server mean, by their numbers.

Numbers: https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html and
https://mariadb.com/kb/en/mariadb-error-code-reference/
"""

import struct

from pymysql.err import Error  # type: ignore[import-untyped]

from app.syncs.adapters.network_failures import closed, in_words, network_failure
from app.syncs.adapters.port import Target
from app.syncs.failures import FailureKind, ServerFailure

# Whatever the driver stumbles over when a server sends what is no answer: it parses without looking first.
NO_ANSWER = (
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)

# CR_SERVER_GONE_ERROR, CR_SERVER_LOST, CR_SERVER_LOST_EXTENDED: the driver's own numbers.
_LOST = frozenset({2006, 2013, 2055})
_CLOSING = "somebody ended the connection, or shut the server down"

# MariaDB says no more where the server or the account demands TLS.
_SIGN_IN = (
    "look at the credential's username and password, whether the account may sign in from this service's address, and "
    "whether it demands TLS"
)
_EXPIRED = "the account's password has expired: set a new one on the server and in the credential"
_LOCKED = "the account is locked: ALTER USER … ACCOUNT UNLOCK"
_HOST = "the server takes no connections from this address"
_PLUGIN = (
    "the account signs in by a method that the driver does not know: give it mysql_native_password, or "
    "caching_sha2_password on MySQL"
)
_TOO_MANY = "the server is out of connections: raise max_connections, or give the account a larger limit"
_GRANT = "grant the account what docs/syncs/mysql.md lists"
_TOO_SLOW = "the server ended a statement that took too long: look at its load, or raise MUSTER_SYNC_SECONDS"

_MEANINGS = {
    1045: (FailureKind.SIGN_IN_REFUSED, _SIGN_IN),
    1698: (FailureKind.SIGN_IN_REFUSED, _SIGN_IN),
    1129: (FailureKind.SIGN_IN_REFUSED, f"{_HOST} after many failed ones: run mariadb-admin flush-hosts"),
    1130: (FailureKind.SIGN_IN_REFUSED, f"{_HOST}: create the account for it"),
    1820: (FailureKind.SIGN_IN_REFUSED, _EXPIRED),
    1862: (FailureKind.SIGN_IN_REFUSED, _EXPIRED),
    3118: (FailureKind.SIGN_IN_REFUSED, _LOCKED),
    3955: (FailureKind.SIGN_IN_REFUSED, _LOCKED),
    4151: (FailureKind.SIGN_IN_REFUSED, _LOCKED),
    1251: (FailureKind.SIGN_IN_REFUSED, _PLUGIN),
    1524: (FailureKind.SIGN_IN_REFUSED, _PLUGIN),
    2059: (FailureKind.SIGN_IN_REFUSED, _PLUGIN),
    3159: (FailureKind.TLS, "the server takes only connections with TLS: set the instance's TLS mode to require"),
    1049: (FailureKind.DATABASE_MISSING, "check the instance's database name, or leave it empty"),
    1044: (FailureKind.PERMISSION_MISSING, _GRANT),
    1142: (FailureKind.PERMISSION_MISSING, _GRANT),
    1143: (FailureKind.PERMISSION_MISSING, _GRANT),
    1227: (FailureKind.PERMISSION_MISSING, _GRANT),
    1370: (FailureKind.PERMISSION_MISSING, _GRANT),
    1969: (FailureKind.TIMED_OUT, _TOO_SLOW),
    3024: (FailureKind.TIMED_OUT, _TOO_SLOW),
    1053: (FailureKind.CLOSED, _CLOSING),
    1927: (FailureKind.CLOSED, _CLOSING),
    1040: (FailureKind.SERVER_ERROR, _TOO_MANY),
    1203: (FailureKind.SERVER_ERROR, _TOO_MANY),
    1226: (FailureKind.SERVER_ERROR, _TOO_MANY),
}


def failure_of(error: Exception, target: Target, grant: str | None = None) -> ServerFailure:
    """`grant` is what the question needs, for the hint when the server says that it is missing."""
    if isinstance(error, ServerFailure):
        return error
    if isinstance(error, OSError | EOFError):
        return network_failure(error, target)
    if isinstance(error, Error) and len(error.args) >= 2 and isinstance(error.args[0], int):
        return _server_failure(error.args[0], str(error.args[1]), target, grant)
    return protocol_failure(target, f"{type(error).__name__}: {error}")


def protocol_failure(target: Target, what: str) -> ServerFailure:
    hint = f"look at what listens on port {target.port}: it does not speak as a MySQL or MariaDB server does"
    return ServerFailure(FailureKind.PROTOCOL, _readable(f"no answer of a MySQL server ({what})", target), hint)


def _server_failure(code: int, message: str, target: Target, grant: str | None) -> ServerFailure:
    if code in _LOST:
        return closed(target)
    kind, hint = _MEANINGS.get(code, (FailureKind.SERVER_ERROR, "look at the server's error log"))
    if kind is FailureKind.PERMISSION_MISSING and grant is not None:
        hint = f"grant the account what docs/syncs/mysql.md lists: {grant}"
    return ServerFailure(kind, _readable(message, target), hint, str(code))


def _readable(message: str, target: Target) -> str:
    return in_words("".join(each if each.isprintable() else " " for each in message), target)
