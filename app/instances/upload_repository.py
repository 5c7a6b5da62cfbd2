"""SQL about uploads, and about the operations that need them."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.statements import is_listed
from app.models.base import table_of
from app.models.operation import Operation, OperationState
from app.models.upload import Upload, UploadPiece

uploads = table_of(Upload)
upload_pieces = table_of(UploadPiece)
operations = table_of(Operation)


class UploadRow(NamedTuple):
    id: str
    filename: str | None
    size: int
    sha256: str


async def add(session: AsyncSession, row: UploadRow) -> None:
    await session.execute(insert(uploads).values(row._asdict()))


async def add_piece(session: AsyncSession, upload_id: str, number: int, content: bytes) -> None:
    await session.execute(insert(upload_pieces).values(upload_id=upload_id, number=number, content=content))


async def find(session: AsyncSession, upload_id: str) -> UploadRow | None:
    statement = select(*(uploads.c[name] for name in UploadRow._fields)).where(uploads.c.id == upload_id)
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else UploadRow(*row)


async def piece(session: AsyncSession, upload_id: str, number: int) -> bytes | None:
    """None after the last one."""
    columns = upload_pieces.c
    statement = select(columns.content).where(columns.upload_id == upload_id, columns.number == number)
    return await session.scalar(statement)


async def known_ids(session: AsyncSession, upload_ids: Iterable[str]) -> set[str]:
    """Those of them that there are."""
    wanted = list(upload_ids)
    if not wanted:
        return set()
    return set(await session.scalars(select(uploads.c.id).where(is_listed(session, uploads.c.id, wanted))))


async def outlived_ids(
    session: AsyncSession, finished_before: datetime | None, unused_before: datetime, limit: int
) -> list[str]:
    """Uploads that nobody needs any more: every operation has ended before the first moment (None keeps these), or no
    operation was started by the second."""
    used = select(operations.c.upload_id).where(operations.c.upload_id == uploads.c.id)
    outlived: ColumnElement[bool] = ~used.exists() & (uploads.c.created_at < unused_before)
    if finished_before is not None:
        needed = used.where(or_(operations.c.finished_at.is_(None), operations.c.finished_at >= finished_before))
        outlived = or_(outlived, used.exists() & ~needed.exists())
    statement = select(uploads.c.id).where(outlived).order_by(uploads.c.created_at, uploads.c.id).limit(limit)
    return list(await session.scalars(statement))


async def remove(session: AsyncSession, upload_id: str) -> bool:
    """With its pieces, unless an operation that has not ended needs it: False then, and when it is gone already.

    Whoever takes an operation up again locks it, as this does: this sees that it has not ended, or it sees the upload
    gone.
    """
    using = select(operations.c.state).where(operations.c.upload_id == upload_id).with_for_update()
    states = [OperationState(state) for state in await session.scalars(using)]
    if not all(state.is_end for state in states):
        return False
    result = await session.execute(delete(uploads).where(uploads.c.id == upload_id))
    return bool(result.rowcount)  # type: ignore[attr-defined]
