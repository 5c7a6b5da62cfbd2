"""Nobody gives more than they have: what the caller of the current call may hand on, by roles and by keys."""

from collections.abc import Iterable

from app.caller import NOWHERE, current_call
from app.errors import Forbidden

MAX_NAMED_PERMISSIONS = 5


def require_held(permissions: Iterable[str], space_id: int | None, what: str) -> None:
    """Raises Forbidden unless the caller holds each of them in the space; everywhere, where that is None.

    The service itself may hand on everything. `what` says in the message what cannot be done.
    """
    call = current_call()
    if call.is_service:
        return
    lacking = [each for each in sorted(permissions) if not _holds(each, space_id)]
    if lacking:
        where = "everywhere" if space_id is None else f"in space {space_id}"
        raise Forbidden(f"{what}: you do not hold {_named(lacking)} {where}")


def is_held_somewhere(permission: str) -> bool:
    call = current_call()
    return call.is_service or call.rights.get(permission, NOWHERE) != NOWHERE


def _holds(permission: str, space_id: int | None) -> bool:
    spaces = current_call().rights.get(permission, NOWHERE)
    return spaces is None or space_id in spaces


def _named(permissions: list[str]) -> str:
    shown = ", ".join(permissions[:MAX_NAMED_PERMISSIONS])
    rest = len(permissions) - MAX_NAMED_PERMISSIONS
    return f"{shown} and {rest} more" if rest > 0 else shown
