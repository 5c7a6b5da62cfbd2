"""What errors of a Redis server mean, by the word that they begin with.

https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
"""

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from app.syncs.adapters.network_failures import closed, in_words, network_failure
from app.syncs.adapters.port import Target
from app.syncs.failures import FailureKind, ServerFailure

# Whatever the driver stumbles over when a server sends what is no answer.
NO_ANSWER = (AttributeError, LookupError, MemoryError, OverflowError, RuntimeError, TypeError, ValueError)

_SIGN_IN = "look at the credential's username (`default` where there are no others) and password, and at ACL LIST"
_GRANT = "give the account what docs/syncs/redis.md lists"

_meaning_by_code = {
    "WRONGPASS": (FailureKind.SIGN_IN_REFUSED, _SIGN_IN),
    "NOAUTH": (FailureKind.SIGN_IN_REFUSED, _SIGN_IN),
    "DENIED": (FailureKind.SIGN_IN_REFUSED, "protected mode takes no clients from other hosts: set a password"),
    "NOPERM": (FailureKind.PERMISSION_MISSING, _GRANT),
    "LOADING": (FailureKind.SERVER_ERROR, "it is loading its data into memory: try again when that is done"),
    "MASTERDOWN": (FailureKind.SERVER_ERROR, "the replica has lost its primary and is set to serve nothing meanwhile"),
    "MISCONF": (FailureKind.SERVER_ERROR, "it cannot write its snapshots: look at its log and its disk"),
    "BUSY": (FailureKind.SERVER_ERROR, "a script keeps it from answering: SCRIPT KILL or FUNCTION KILL"),
}
_meaning_by_text = {
    "max number of clients": (FailureKind.SERVER_ERROR, "it is out of connections: raise maxclients"),
    "without any password configured": (FailureKind.SIGN_IN_REFUSED, _SIGN_IN),
    "invalid password": (FailureKind.SIGN_IN_REFUSED, _SIGN_IN),
    "for 'auth' command": (FailureKind.SIGN_IN_REFUSED, "a server before Redis 6 has no users and is not read"),
    "unknown command": (FailureKind.PERMISSION_MISSING, "the server, or who runs it, does not offer the command"),
    "unknown subcommand": (FailureKind.PERMISSION_MISSING, "the server, or who runs it, does not offer the command"),
}


def failure_of(error: Exception, target: Target, grant: str | None = None) -> ServerFailure:
    """`grant` is the rule that the question needs, for the hint when the server says that it is missing."""
    if isinstance(error, ServerFailure):
        return error
    if isinstance(error, OSError | EOFError):
        return network_failure(error, target)
    if isinstance(error, RedisError) and not isinstance(error, InvalidResponse):
        return _server_failure(error, target, grant)
    return protocol_failure(target, f"{type(error).__name__}: {error}")


def protocol_failure(target: Target, what: str) -> ServerFailure:
    hint = f"look at what listens on port {target.port}: it does not speak as a Redis server does"
    return ServerFailure(FailureKind.PROTOCOL, _readable(f"no answer of a Redis server ({what})", target), hint)


def _server_failure(error: RedisError, target: Target, grant: str | None) -> ServerFailure:
    code = _code(error)
    if code is None and isinstance(error, RedisConnectionError):
        # The driver's own, for a connection that ended.
        return closed(target)
    kind, hint = _meaning(code, str(error))
    if kind is FailureKind.PERMISSION_MISSING and grant is not None:
        hint = f"{hint}: ACL SETUSER {target.username} {grant}"
    return ServerFailure(kind, _readable(str(error), target), hint, code)


def _meaning(code: str | None, message: str) -> tuple[FailureKind, str]:
    for text, meaning in _meaning_by_text.items():
        if text in message.lower():
            return meaning
    return _meaning_by_code.get(code or "", (FailureKind.SERVER_ERROR, "look at the server's log"))


def _code(error: RedisError) -> str | None:
    """The driver takes the codes that it knows off the message, and leaves others in it."""
    first = str(error).partition(" ")[0]
    return error.status_code or (first if first.isupper() and len(first) <= 32 else None)


def _readable(message: str, target: Target) -> str:
    return in_words("".join(each if each.isprintable() else " " for each in message), target)
