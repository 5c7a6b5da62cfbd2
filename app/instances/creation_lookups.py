"""What the database knows of an import's rows: before they are settled, and after another writer was faster."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from app.credentials.service import CredentialService
from app.database import Database
from app.instances import batch_repository as repository
from app.instances.batch_report import RowOutcome, RowStatus
from app.instances.chunk_writer import Chunk, conflict, updated
from app.instances.creation_batch import CreationBatch
from app.instances.judged_rows import GoodRow
from app.instances.settlement import Known, OnExisting, Owner, endpoint_of
from app.planner import looking_up


async def known_rows(session: AsyncSession, batch: CreationBatch, rows: Sequence[GoodRow]) -> Known:
    """What the database knows of these rows, in a few statements whatever their number."""
    credentials = {row.credential for row in rows if row.credential} - batch.credential_ids.keys()
    if credentials:
        batch.credential_ids.update(await CredentialService(session).ids_by_name(batch.space.id, credentials))
    ids = await repository.ids_by_name(session, batch.space.id, [row.name for row in rows])
    stored = (
        await repository.stored_instances(session, list(ids.values()), lock=False)
        if ids and batch.request.on_existing is OnExisting.UPDATE
        else {}
    )
    columns = batch.judged.columns
    endpoints = [endpoint_of(row, stored.get(ids.get(row.name, 0)), columns) for row in rows]
    found = await repository.ids_by_endpoint(session, batch.space.id, endpoints)
    others = {
        endpoint: found[endpoint]
        for row, endpoint in zip(rows, endpoints, strict=True)
        if endpoint in found and found[endpoint] != ids.get(row.name)
    }
    names = await repository.names_by_id(session, list(others.values())) if others else {}
    owners = {endpoint: Owner(key, names[key]) for endpoint, key in others.items() if key in names}
    return Known(ids, owners, batch.credential_ids, stored)


async def foreseen_rows(session: AsyncSession, batch: CreationBatch, chunk: Chunk) -> list[RowOutcome]:
    """What writing the chunk would do."""
    ids = list(chunk.update_ids.values())
    stored = await repository.stored_instances(session, ids, lock=False) if ids else {}
    changes = batch.writer().changes(chunk, stored)
    return [
        updated(row, key, changes[key])
        if (key := chunk.update_ids.get(row.line)) is not None
        else RowOutcome(row.line, row.name, RowStatus.CREATED)
        for row in chunk.rows
    ]


async def lost_rows(database: Database, batch: CreationBatch, chunk: Chunk) -> dict[int, RowOutcome]:
    """By line, the rows that cannot be written any more, after looking everything up again."""
    async with looking_up(database) as session:
        named = {row.credential for row in chunk.rows if row.credential}
        credential_ids = await CredentialService(session).ids_by_name(batch.space.id, named) if named else {}
        known = await known_rows(session, batch, chunk.rows)
    batch.credential_ids.update(credential_ids)
    lost = {}
    for row in chunk.rows:
        instance_id = chunk.update_ids.get(row.line)
        stored = None if instance_id is None else known.stored.get(instance_id)
        owner = known.owner_by_endpoint.get(endpoint_of(row, stored, batch.judged.columns))
        if instance_id is not None and stored is None:
            lost[row.line] = updated(row, instance_id, None)
        elif instance_id is None and row.name in known.id_by_name:
            lost[row.line] = conflict(row, "another writer registered this name meanwhile", "name", row.name)
        elif owner is not None and owner.name != row.name:
            lost[row.line] = conflict(row, f"{owner.name} took this endpoint meanwhile", "host", row.host)
        elif row.credential is not None and row.credential not in credential_ids:
            message = "this credential was deleted meanwhile"
            lost[row.line] = conflict(row, message, "credential", row.credential)
    return lost
