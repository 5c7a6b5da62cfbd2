"""What becomes of a name that somebody else has: the unique index decides, and whoever comes second is told."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError

from app.database.driver_errors import is_unique_violation
from app.errors import Conflict


@contextmanager
def refusing_taken_name(what: str, name: str | None) -> Iterator[None]:
    """For a statement that violates no unique index but the name's. Raises Conflict.

    `what` is how the refusal begins: `there is a role`.
    """
    try:
        yield
    except IntegrityError as error:
        if not is_unique_violation(error):
            raise
        raise Conflict(f"{what} named {name!r} already") from error
