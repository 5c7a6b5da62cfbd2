"""For any graph of rows below some instances, deleting a few of these leaves exactly the others' rows."""

from collections.abc import Mapping, Sequence

from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.database import Database
from app.instances.batch_deletion import InstanceBatchDeletionService
from app.instances.cascade import DeletionMode
from app.instances.deletion_batch import DeletionRequest
from app.instances.deletion_report import ItemStatus
from tests.instances.fleet import BELOW, catalogue, contents, fleet

EXAMPLES = 30
# What the deletion adds to, and the server beside it.
AUDIT = ("audit_events", "audit_anchors")
graphs = st.lists(
    st.tuples(st.booleans(), st.dictionaries(st.sampled_from(BELOW), st.integers(1, 3))), min_size=1, max_size=6
)


class TestAnyGraph:
    @given(graph=graphs, deepened=st.lists(st.booleans(), min_size=6, max_size=6))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        # One database serves all examples: what an earlier one left must stay as it is, too.
        suppress_health_check=[HealthCheck.function_scoped_fixture],
        database=None,
    )
    async def test_loses_just_the_rows_of_the_deleted(
        self, app: FastAPI, database: Database, graph: Sequence[tuple[bool, Mapping[str, int]]], deepened: list[bool]
    ) -> None:
        service: InstanceBatchDeletionService = app.state.batch_deletion
        rows = [dict(below) for _, below in graph]
        for below, is_deep in zip(rows, deepened, strict=False):
            if is_deep:
                below |= {"instance_accounts": 3, "account_permissions": 2, "account_classification_assignments": 2}
        ids = await fleet(database, rows)
        victims = [key for key, (is_victim, _) in zip(ids, graph, strict=True) if is_victim]
        tables = await catalogue(database)
        before = await contents(database, tables)
        report = await service.delete(DeletionRequest(tuple(victims), DeletionMode.HARD))
        after = await contents(database, tables)
        assert [item.status for item in report.items] == [ItemStatus.DELETED] * len(victims)
        names = {repr(key) for key in victims}
        left = {
            name: [row for row in found if row.get("id" if name == "instances" else "instance_id") not in names]
            for name, found in before.items()
            if name not in AUDIT
        }
        assert {name: found for name, found in after.items() if name not in AUDIT} == left
        gone = {name: len(before[name]) - len(left[name]) for name in left if len(before[name]) > len(left[name])}
        assert report.rows_deleted() == gone
