"""The set-based look before a deletion: which of the instances there are, what blocks them, what would go."""

from collections.abc import Mapping, Sequence

from app.database import Database
from app.instances import deletion_repository as repository
from app.instances.cascade import UNPLANNED_TABLE, DeletionMode, InstanceCascadeDeletionPlan
from app.instances.deletion_batch import Seen
from app.instances.deletion_report import FoundBlocker


class DeletionLook:
    """Knows the plan's blockers, and those that the live database adds to it."""

    def __init__(self, database: Database, plan: InstanceCascadeDeletionPlan) -> None:
        self._database = database
        self._plan = plan

    async def look(self, ids: Sequence[int], mode: DeletionMode, *, with_rows: bool) -> Seen:
        """What there is of these instances, at least one."""
        async with self._database.readers() as session:
            found = await repository.find(session, ids)
            blocking = await repository.blocking(session, self._plan, ids, mode)
            rows = await repository.rows_below(session, self._plan, list(found)) if with_rows and found else {}
            unplanned: list[repository.LiveTable] = []
            if mode is DeletionMode.HARD:
                unplanned = repository.unplanned(self._plan, await repository.tables_below(session))
        everywhere = tuple(
            FoundBlocker(
                UNPLANNED_TABLE, f"table {each.name} refers to instances and is not in the deletion plan", None
            )
            for each in unplanned
        )
        blockers = {key: self.described(blocking.get(key, {})) + everywhere for key in found}
        return Seen(found, {key: each for key, each in blockers.items() if each}, rows)

    def described(self, count_by_code: Mapping[str, int]) -> tuple[FoundBlocker, ...]:
        return tuple(
            FoundBlocker(code, self._plan.blocker(code).message, count) for code, count in sorted(count_by_code.items())
        )

    def can_be_forced(self, code: str) -> bool:
        return code != UNPLANNED_TABLE and self._plan.blocker(code).can_be_forced
