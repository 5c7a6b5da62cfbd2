"""What errors of the drivers mean, and their form where a statement goes past SQLAlchemy."""

import sqlite3

import asyncpg
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError, IntegrityError, OperationalError

# deadlock_detected, serialization_failure, lock_not_available: the same transaction can succeed when run again.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_transient_states = {"40P01", "40001", "55P03"}
# What asyncpg raises for a connection that is gone. InternalClientError: the server has taken leave, and the driver
# still waits for the socket to close.
lost_connection_errors = (
    asyncpg.InternalClientError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    OSError,
)


def is_transient(error: DBAPIError) -> bool:
    """Whether running the same transaction again can succeed: deadlock, serialization failure, SQLite busy."""
    state = getattr(error.orig, "sqlstate", None)
    return state in _transient_states or (state is None and "database is locked" in str(error.orig))


def is_unique_violation(error: IntegrityError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return state == "23505" or (state is None and "UNIQUE constraint failed" in str(error.orig))


def is_disconnect(error: BaseException) -> bool:
    """Whether the connection was lost or could not be made, so that a commit under way may or may not have happened."""
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or _is_outage(error.orig)
    if isinstance(error, asyncpg.PostgresError):
        # A server that is starting says so while the connection is made, where SQLAlchemy does not translate.
        return _is_outage(error)
    return isinstance(error, (TimeoutError, DisconnectionError, *lost_connection_errors))


def _is_outage(error: BaseException | None) -> bool:
    return (getattr(error, "sqlstate", None) or "").startswith(("08", "57P"))


def as_sqlalchemy(error: Exception, statement: str) -> Exception:
    """What SQLAlchemy would have raised, had the statement gone through it; other errors are returned as they are."""
    if isinstance(error, asyncpg.IntegrityConstraintViolationError | sqlite3.IntegrityError):
        return IntegrityError(statement, None, error)
    if isinstance(error, asyncpg.DataError):
        return DataError(statement, None, error)
    if isinstance(error, lost_connection_errors):
        return OperationalError(statement, None, error, connection_invalidated=True)
    if isinstance(error, asyncpg.PostgresError | sqlite3.Error):
        return OperationalError(statement, None, error)
    return error
