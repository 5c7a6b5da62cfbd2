"""The attempt at an operation, as a row that a statement can hold: fencing (app.operations.ledger) without one of its
own."""

from typing import Final

from sqlalchemy import BigInteger, Integer, bindparam, select

from app.models.base import table_of
from app.models.operation import Operation, OperationState

_operations = table_of(Operation)

# There is a row while the attempt is the current one; then it stays so until the transaction ends. KEY SHARE lets many
# hold it at once and progress be noted; a takeover locks the whole row, and waits.
HELD: Final = (
    select(_operations.c.id)
    .where(
        _operations.c.id == bindparam("operation_id", type_=BigInteger()),
        _operations.c.attempt == bindparam("attempt", type_=Integer()),
        _operations.c.state == OperationState.RUNNING,
    )
    .with_for_update(read=True, key_share=True)
)
