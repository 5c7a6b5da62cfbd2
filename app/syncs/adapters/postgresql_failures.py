"""What went wrong between the service and a PostgreSQL server, classified.

The codes are those of https://www.postgresql.org/docs/current/errcodes-appendix.html.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import asyncpg

from app.syncs.adapters.network_failures import closed, in_words, network_failure
from app.syncs.adapters.port import Target
from app.syncs.failures import FailureKind, ServerFailure

_GRANTS = "give the account the rights that docs/syncs/postgresql.md lists (GRANT pg_monitor TO …)"
_SUPPORTED = "PostgreSQL 12 to 18 are supported; this is another version, or another server"

_by_sqlstate: Mapping[str, tuple[FailureKind, str]] = {
    "28P01": (FailureKind.SIGN_IN_REFUSED, "look at the credential's user name and password"),
    "28000": (
        FailureKind.SIGN_IN_REFUSED,
        "the role must exist and have LOGIN, and pg_hba.conf must let it in: from the service's address, to this "
        "database, with or without TLS as the TLS mode has it",
    ),
    "3D000": (FailureKind.DATABASE_MISSING, "register a database that exists; when none is named, it is postgres"),
    "42501": (FailureKind.PERMISSION_MISSING, _GRANTS),
    "53300": (
        FailureKind.SERVER_ERROR,
        "raise max_connections, or the role's CONNECTION LIMIT; lower MUSTER_SYNC_CONNECTIONS_PER_HOST",
    ),
    "57P03": (FailureKind.SERVER_ERROR, "the server is starting, stopping or recovering: try again later"),
    "57P01": (FailureKind.CLOSED, "an administrator or a shutdown ended the connection: try again"),
    "57P02": (FailureKind.CLOSED, "another process of the server crashed: look at its log"),
    "57014": (FailureKind.TIMED_OUT, "the server is busy, or has more to tell than MUSTER_SYNC_SECONDS allow"),
    "55P03": (FailureKind.TIMED_OUT, "something was locked for too long: try again when the work on it is done"),
    "08P01": (
        FailureKind.PROTOCOL,
        "a pooler such as PgBouncer does not know the session's settings: register the server itself",
    ),
    "42703": (FailureKind.SERVER_ERROR, _SUPPORTED),
    "42704": (FailureKind.SERVER_ERROR, _SUPPORTED),
    "42883": (FailureKind.SERVER_ERROR, _SUPPORTED),
    "42P01": (FailureKind.SERVER_ERROR, _SUPPORTED),
}


@contextmanager
def as_failures(target: Target, refusal: Callable[[], ServerFailure | None] = lambda: None) -> Iterator[None]:
    """Whatever goes wrong in the block is raised as a ServerFailure; `refusal` when that tells the reason."""
    try:
        yield
    except ServerFailure:
        raise
    # Of any type: what comes of bytes that are not PostgreSQL's is nowhere promised, neither what asyncpg raises, nor
    # of which type a value in a row is.
    except Exception as error:
        raise refusal() or _failure(error, target) from error


def _failure(error: Exception, target: Target) -> ServerFailure:
    match error:
        case OSError():
            return network_failure(error, target)
        case asyncpg.ConnectionDoesNotExistError():
            return _of_the_end(error, target)
        case asyncpg.PostgresError():
            return _of_the_server(error, target)
    return _of_the_driver(error, target)


def _of_the_end(error: Exception, target: Target) -> ServerFailure:
    """The connection is gone; what the server said before, if it said anything, is the reason."""
    if isinstance(error.__cause__, asyncpg.PostgresError):
        return _of_the_server(error.__cause__, target)
    return closed(target)


def _of_the_server(error: asyncpg.PostgresError, target: Target) -> ServerFailure:
    code = str(error.sqlstate or "")
    kind, hint = _by_sqlstate.get(code, (FailureKind.SERVER_ERROR, "look at the server's log"))
    if code == "28P01":
        # Not the server's words: blotting a password out of a known sentence would tell that it was one of its words.
        return ServerFailure(kind, f"the server refused the password of {target.username}", hint, code)
    return ServerFailure(kind, _words(error, target), hint, code or None)


def _of_the_driver(error: Exception, target: Target) -> ServerFailure:
    # It is wrapped when it arises while the server's demand is read.
    demand = error if isinstance(error, asyncpg.InterfaceError) else error.__cause__
    if isinstance(demand, asyncpg.InterfaceError):
        hint = "the server wants another way to sign in: pg_hba.conf must ask for scram-sha-256, md5 or password"
        return ServerFailure(FailureKind.SIGN_IN_REFUSED, _words(demand, target), hint)
    message = f"the answer is not one of PostgreSQL's ({type(error).__name__})"
    return ServerFailure(FailureKind.PROTOCOL, message, "look at the port, and at what listens there")


def _words(error: Exception, target: Target) -> str:
    # Not str(): that adds the server's details, which may quote rows.
    return in_words(str(error.args[0]) if error.args else type(error).__name__, target)
