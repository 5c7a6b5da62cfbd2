"""Plan tokens: proof of what a precheck showed, so that a deletion does that or nothing.

A token holds, sealed, the mode, the expiry and four bytes for each instance, made from its id, its revision and its
blockers. It is not stored anywhere: the ids come again with the deletion, and whatever differs is named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

import orjson

from app.credentials.encryption import SecretBox, SecretUnreadable
from app.errors import JsonValue, PreconditionFailed
from app.instances.cascade import DeletionMode

DIGEST_BYTES = 4


@dataclass(frozen=True, slots=True)
class PlannedState:
    """What a plan depends on; None in its place stands for an instance that is not there."""

    revision: int
    blockers: tuple[str, ...]


class PlanTokens:
    def __init__(self, box: SecretBox, lifetime: timedelta) -> None:
        self._box = box
        self._lifetime = lifetime

    def issue(self, ids: Sequence[int], mode: DeletionMode, states: Mapping[int, PlannedState]) -> tuple[str, datetime]:
        """The token and when it expires."""
        expires_at = datetime.now(UTC).replace(microsecond=0) + self._lifetime
        digests = b"".join(_digest(each, states.get(each)) for each in sorted(ids))
        content = {"mode": mode.value, "expires": expires_at.timestamp(), "digests": digests.hex()}
        return self._box.seal(orjson.dumps(content).decode()), expires_at

    def require_current(
        self, token: str, ids: Sequence[int], mode: DeletionMode, states: Mapping[int, PlannedState]
    ) -> None:
        """Raises PreconditionFailed, naming what changed, unless the token was issued for just this."""
        planned_mode, expires, digests = self._opened(token)
        if planned_mode != mode.value:
            raise PreconditionFailed(f"the plan token is for mode {planned_mode}, not {mode.value}")
        if expires < datetime.now(UTC).timestamp():
            raise PreconditionFailed("the plan token has expired; run the precheck again")
        if len(digests) != DIGEST_BYTES * len(ids):
            raise PreconditionFailed("the plan token is for another list of instances")
        changed = [
            each
            for number, each in enumerate(sorted(ids))
            if digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES] != _digest(each, states.get(each))
        ]
        if changed:
            raise PreconditionFailed(
                f"{len(changed)} of {len(ids)} instances changed since the precheck; run it again",
                members={"changed": [{"instance_id": each} | _as_json(states.get(each)) for each in changed]},
            )

    def _opened(self, token: str) -> tuple[str, float, bytes]:
        """Mode, expiry (seconds since 1970) and digests."""
        try:
            content = orjson.loads(self._box.open(token))
            return content["mode"], content["expires"], bytes.fromhex(content["digests"])
        except (SecretUnreadable, ValueError, KeyError, TypeError) as error:
            raise PreconditionFailed("the plan token is not one of ours; run the precheck again") from error


def _digest(instance_id: int, state: PlannedState | None) -> bytes:
    text = f"{instance_id}:{state.revision}:{','.join(state.blockers)}" if state else f"{instance_id}:missing"
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def _as_json(state: PlannedState | None) -> dict[str, JsonValue]:
    if state is None:
        return {"missing": True}
    return {"revision": state.revision, "blockers": list(state.blockers)}
