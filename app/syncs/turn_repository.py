"""SQL about an instance whose turn it is in a sync, and which was looked up before.

Syncs of whole fleets wait for these statements, so they are made once, and hold the operation's attempt along with the
instance: first the attempt, as everywhere. `attempt` is Ledger.parameters. Where one finds nothing, the attempt is over
or the instance is not there, and Ledger.hold tells which.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, String, and_, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.tenancy import SPACES_CHECKED
from app.credentials.records import SealedSignIn
from app.models.base import UtcDateTime, table_of
from app.models.credential import Credential
from app.models.instance import Instance
from app.models.sync import SyncEndpoint
from app.operations.attempt import HELD
from app.syncs.records import BegunInstance, SyncedInstance, UnreachableEndpoint

_instances = table_of(Instance)
_endpoints = table_of(SyncEndpoint)
_credentials = table_of(Credential)
_of_instance = _instances.c.id == bindparam("instance_id", type_=BigInteger())

_FIRST_OF_ENDPOINT: Final = len(SyncedInstance._fields)
_FIRST_OF_CREDENTIAL: Final = _FIRST_OF_ENDPOINT + len(UnreachableEndpoint._fields)
_begun = (
    select(
        *(_instances.c[name] for name in SyncedInstance._fields),
        *(_endpoints.c[name] for name in UnreachableEndpoint._fields),
        _credentials.c.username,
        _credentials.c.encrypted_password,
        _credentials.c.id,
    )
    .select_from(
        _instances.outerjoin(
            _endpoints, and_(_endpoints.c.host == _instances.c.host, _endpoints.c.port == _instances.c.port)
        ).outerjoin(_credentials, _credentials.c.id == _instances.c.credential_id)
    )
    .where(HELD.exists(), _of_instance, _instances.c.space_id == bindparam("space_id", type_=BigInteger()))
    .with_for_update(read=True, key_share=True, of=_instances)
)
_locked = (
    select(_instances.c.id)
    .where(HELD.exists(), _of_instance, _instances.c.deleted_at.is_(None))
    .with_for_update(key_share=True)
)
_connected = (
    update(_instances)
    .where(HELD.exists(), _of_instance, _instances.c.deleted_at.is_(None))
    .values(
        version=bindparam("seen_version", type_=String()),
        last_connected_at=bindparam("seen_at", type_=UtcDateTime()),
        # Nobody changed the instance: its revision stays, and who changed it last, and when.
        updated_at=_instances.c.updated_at,
        updated_by=_instances.c.updated_by,
    )
    .returning(_instances.c.id)
)


async def begin(
    session: AsyncSession, attempt: Mapping[str, int], space_id: int, instance_id: int
) -> BegunInstance | None:
    """The instance, which nobody deletes until the transaction ends, and what its turn begins with.

    While this waits for whoever holds the instance it may be given another endpoint or credential, of which there is
    nothing then.
    """
    parameters = {**attempt, "space_id": space_id, "instance_id": instance_id}
    row = (await session.execute(_begun, parameters, execution_options=SPACES_CHECKED)).one_or_none()
    if row is None:
        return None
    known, (username, token, credential_id) = row[_FIRST_OF_ENDPOINT:_FIRST_OF_CREDENTIAL], row[_FIRST_OF_CREDENTIAL:]
    return BegunInstance(
        SyncedInstance._make(row[:_FIRST_OF_ENDPOINT]),
        None if known[0] is None else UnreachableEndpoint._make(known),
        None if credential_id is None else SealedSignIn(username, token),
    )


async def lock(session: AsyncSession, attempt: Mapping[str, int], instance_id: int) -> bool:
    """One sync of an instance writes at a time. False also for one that is deleted."""
    parameters = {**attempt, "instance_id": instance_id}
    return await session.scalar(_locked, parameters, execution_options=SPACES_CHECKED) is not None


async def lock_connected(
    session: AsyncSession, attempt: Mapping[str, int], instance_id: int, version: str, connected_at: datetime
) -> bool:
    """The same of one that was connected to, which is noted."""
    parameters = {**attempt, "instance_id": instance_id, "seen_version": version, "seen_at": connected_at}
    return await session.scalar(_connected, parameters, execution_options=SPACES_CHECKED) is not None
