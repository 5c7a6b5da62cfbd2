"""Keeps every statement of a call inside the spaces that its caller may reach; the one place where that happens.

Whatever a session executes comes by here and is rewritten (app.access.restriction), unless it says by `SPACES_CHECKED`
that what it names has been looked up by a statement that was. Statements that go straight to the driver use `condition`
and `parameter`, or ids that were looked up.
"""

from typing import Final

from sqlalchemy import ColumnElement, bindparam, event
from sqlalchemy.orm import ORMExecuteState

from app.access.restriction import as_parameter, is_one_of, parameter_type, restricted
from app.caller import current_call
from app.database import ServiceSession

# An execution option: the ids in the statement are of rows that the caller may reach.
SPACES_CHECKED: Final = {"muster_spaces_checked": True}
PARAMETER = "reachable_spaces"


@event.listens_for(ServiceSession, "do_orm_execute")
def _restrict(state: ORMExecuteState) -> None:
    spaces = current_call().spaces
    if spaces is None or state.execution_options.get("muster_spaces_checked"):
        return
    state.statement = restricted(state.statement, state.session.get_bind().dialect.name, spaces)


def is_restricted() -> bool:
    return current_call().spaces is not None


def condition(dialect: str, column: ColumnElement[int]) -> ColumnElement[bool]:
    """For a statement that is compiled once and given to the driver with `parameter()` under the name PARAMETER."""
    return is_one_of(dialect, column, bindparam(PARAMETER, None, type_=parameter_type(dialect)))


def parameter(dialect: str) -> list[int] | str:
    return as_parameter(dialect, current_call().spaces or ())
