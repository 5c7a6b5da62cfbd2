"""Values that only a service can judge, refused in the form in which a body's other values are."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import FieldError, ParameterError


@contextmanager
def refusing(member: str) -> Iterator[None]:
    """Makes a FieldError inside of it a ParameterError about that member of the body. The value is not echoed."""
    try:
        yield
    except FieldError as error:
        raise refused(member, error) from error


def refused(member: str, error: FieldError) -> ParameterError:
    problem = {"pointer": f"/body/{member}", "code": error.code, "message": error.message}
    return ParameterError(error.message, members={"errors": [problem]})
