"""What SQL Server's errors mean. Numbers and texts are from
https://learn.microsoft.com/en-us/sql/relational-databases/errors-events/database-engine-events-and-errors"""

from collections.abc import Sequence

from pytds import tds_base  # type: ignore[import-untyped, unused-ignore]

from app.syncs.adapters.network_failures import closed, in_words, network_failure
from app.syncs.adapters.port import Target
from app.syncs.failures import FailureKind, ServerFailure

_GRANTS = "grant what docs/syncs/sqlserver.md lists: VIEW ANY DEFINITION, VIEW SERVER STATE, CONNECT ANY DATABASE"
_SIGN_IN = "look at the credential's user name and password, and whether the server has SQL Server authentication on"
_CHANGE_IT = "the login must change its password: sign in as it and do so, or use another one"
_DATABASE = "register a database that exists and that the login may use, or none"

_KIND_BY_NUMBER = {
    4060: (FailureKind.DATABASE_MISSING, _DATABASE),
    4064: (FailureKind.DATABASE_MISSING, "the login's default database cannot be opened: give it another one"),
    911: (FailureKind.DATABASE_MISSING, _DATABASE),
    18456: (FailureKind.SIGN_IN_REFUSED, _SIGN_IN),
    18452: (
        FailureKind.SIGN_IN_REFUSED,
        "the server allows Windows authentication only, or the login is a Windows one",
    ),
    18470: (FailureKind.SIGN_IN_REFUSED, "the login is disabled: ALTER LOGIN … ENABLE"),
    18486: (FailureKind.SIGN_IN_REFUSED, "the login is locked out: ALTER LOGIN … WITH PASSWORD = '…' UNLOCK"),
    18487: (FailureKind.SIGN_IN_REFUSED, _CHANGE_IT),
    18488: (FailureKind.SIGN_IN_REFUSED, _CHANGE_IT),
    229: (FailureKind.PERMISSION_MISSING, _GRANTS),
    230: (FailureKind.PERMISSION_MISSING, _GRANTS),
    262: (FailureKind.PERMISSION_MISSING, _GRANTS),
    297: (FailureKind.PERMISSION_MISSING, _GRANTS),
    300: (FailureKind.PERMISSION_MISSING, _GRANTS),
    371: (FailureKind.PERMISSION_MISSING, _GRANTS),
    916: (FailureKind.PERMISSION_MISSING, _GRANTS),
    1222: (FailureKind.TIMED_OUT, "the catalogue is locked by another session: look for a long schema change"),
    17142: (FailureKind.SERVER_ERROR, "the server is paused"),
    17187: (FailureKind.SERVER_ERROR, "the server is starting: try again in a moment"),
    17809: (FailureKind.SERVER_ERROR, "all user connections are taken: look at the setting user connections"),
}

# A database that cannot be opened just now, or not by this login: dropped, offline, restoring, recovering, in
# single-user mode, or the secondary of an availability group that nobody may read.
NOT_OPEN_NUMBERS = frozenset({
    904, 905, 909, 911, 912, 913, 916, 921, 922, 923, 924, 926, 927, 942, 945, 952, 976, 978, 979, 982, 983, 988,
})  # fmt: skip


def server_failure(numbers: Sequence[int], text: str, target: Target) -> ServerFailure:
    """Of the server's messages: the first that says more than that the login failed decides."""
    known = [number for number in numbers if number in _KIND_BY_NUMBER]
    telling = [number for number in known if number != 18456] or known
    number = telling[0] if telling else (numbers[-1] if numbers else 0)
    kind, hint = _KIND_BY_NUMBER.get(number, (FailureKind.SERVER_ERROR, "look the number up in the server's reference"))
    return ServerFailure(kind, in_words(text, target), hint, str(number) if number else None)


def routed(server: str, port: int, target: Target) -> ServerFailure:
    """The login was accepted, but for another host, whose address nobody has judged."""
    place = in_words(f"{server}:{port}", target)
    hint = "register that server itself; on Azure SQL, use the proxy connection policy"
    return ServerFailure(FailureKind.ADDRESS_DENIED, f"the server sent the connection on to {place}", hint)


def driver_failure(error: Exception, numbers: Sequence[int], target: Target) -> ServerFailure:
    """Of whatever the driver raised; `numbers` are those of the server's messages before it."""
    match error:
        case ServerFailure():
            return error
        case tds_base.ClosedConnectionError():
            return closed(target)
        case tds_base.DatabaseError():
            return server_failure(numbers or [error.msg_no], error.text, target)
        case OSError() | EOFError():
            return network_failure(error, target)
    # The driver reads what it is sent without doubting it, and stumbles over garbage in many ways.
    return ServerFailure(
        FailureKind.PROTOCOL,
        f"{target.host}:{target.port} does not answer as SQL Server does ({type(error).__name__})",
        "look whether the port is the one that SQL Server listens on",
    )
