"""SQL about credentials."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Text, column, delete, func, insert, select, text, update, values
from sqlalchemy.ext.asyncio import AsyncSession

from app.credentials.records import (
    CredentialFilter,
    CredentialPage,
    CredentialRecord,
    SealedPassword,
    SealedSignIn,
    StoredValues,
)
from app.database.statements import dialect_name, is_listed
from app.models.base import table_of
from app.models.credential import Credential
from app.models.instance import Instance
from app.pagination import PageRequest, Sort

_credentials = table_of(Credential)
_has_password = _credentials.c.encrypted_password.is_not(None).label("has_password")
_columns: list[ColumnElement[Any]] = [
    _has_password if field.name == "has_password" else _credentials.c[field.name] for field in fields(CredentialRecord)
]
_sortable = {name: _credentials.c[name] for name in ("id", "name", "created_at")}


async def page(
    session: AsyncSession, credential_filter: CredentialFilter, sort: str, request: PageRequest
) -> CredentialPage:
    ordering = Sort.parse(sort, _sortable)
    conditions = _conditions(credential_filter)
    found = await session.execute(ordering.apply(select(*_columns).where(*conditions), request))
    rows, next_cursor = ordering.cut(found.all(), request)
    count = select(func.count(Credential.id)).where(*conditions)
    total = await session.scalar(count) if request.include_total else None
    return CredentialPage([_record(row) for row in rows], next_cursor, total)


def _conditions(credential_filter: CredentialFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if credential_filter.space_id is not None:
        conditions.append(Credential.space_id == credential_filter.space_id)
    if credential_filter.q:
        conditions.append(Credential.name.icontains(credential_filter.q, autoescape=True))
    return conditions


def _record(row: Sequence[Any]) -> CredentialRecord:
    return CredentialRecord(*row)


async def find(session: AsyncSession, credential_id: int) -> CredentialRecord | None:
    row = (await session.execute(select(*_columns).where(Credential.id == credential_id))).one_or_none()
    return None if row is None else _record(row)


async def lock(session: AsyncSession, credential_id: int) -> CredentialRecord | None:
    """The credential, which nobody else can change, delete or refer to until the transaction ends."""
    statement = select(*_columns).where(Credential.id == credential_id).with_for_update()
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else _record(row)


async def create(session: AsyncSession, space_id: int, stored: StoredValues) -> CredentialRecord:
    statement = insert(Credential).values(space_id=space_id, **stored).returning(*_columns)
    return _record((await session.execute(statement)).one())


async def change(session: AsyncSession, credential_id: int, stored: StoredValues) -> CredentialRecord:
    statement = (
        update(Credential)
        .where(Credential.id == credential_id)
        .values(revision=Credential.revision + 1, **stored)
        .returning(*_columns)
    )
    return _record((await session.execute(statement)).one())


async def remove(session: AsyncSession, credential_id: int) -> None:
    await session.execute(delete(Credential).where(Credential.id == credential_id))


async def count_instances(session: AsyncSession, credential_id: int) -> int:
    """How many instances refer to it, deleted ones included."""
    statement = select(func.count()).select_from(Instance).where(Instance.credential_id == credential_id)
    return (await session.execute(statement)).scalar_one()


async def ids_by_name(session: AsyncSession, space_id: int, names: Sequence[str]) -> dict[str, int]:
    statement = select(Credential.name, Credential.id).where(
        Credential.space_id == space_id, is_listed(session, Credential.name, names)
    )
    return dict((await session.execute(statement)).all())


async def names_by_id(session: AsyncSession, ids: Sequence[int]) -> dict[int, str]:
    statement = select(Credential.id, Credential.name).where(is_listed(session, Credential.id, ids))
    return dict((await session.execute(statement)).all())


async def sealed_sign_in(session: AsyncSession, credential_id: int) -> SealedSignIn | None:
    """None when there is no such credential."""
    statement = select(_credentials.c.username, _credentials.c.encrypted_password).where(Credential.id == credential_id)
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else SealedSignIn._make(row)


async def hold_off_key_change(session: AsyncSession) -> None:
    """From here until the transaction ends, another one's `hold_off_writers` waits for it.

    Call it before rows are locked, or the two wait for each other. SQLite's one writer holds everybody off anyhow, from
    its first statement on.
    """
    if dialect_name(session) == "postgresql":
        await session.execute(text("LOCK TABLE credentials IN ROW EXCLUSIVE MODE"))


async def hold_off_writers(session: AsyncSession) -> None:
    """Waits for the transactions that write credentials, and keeps others waiting until this one ends."""
    if dialect_name(session) == "postgresql":
        await session.execute(text("LOCK TABLE credentials IN SHARE ROW EXCLUSIVE MODE"))


async def lock_passwords(session: AsyncSession, after_id: int, limit: int) -> list[SealedPassword]:
    """The next passwords in order of id, locked until the transaction ends."""
    statement = (
        select(_credentials.c.id, _credentials.c.name, _credentials.c.encrypted_password)
        .where(Credential.id > after_id, Credential.encrypted_password.is_not(None))
        .order_by(Credential.id)
        .limit(limit)
        # Instances may be registered with the credential meanwhile: their foreign key does not mind this lock.
        .with_for_update(key_share=True)
    )
    return [SealedPassword(*row) for row in await session.execute(statement)]


async def replace_passwords(session: AsyncSession, token_by_id: Mapping[int, str]) -> None:
    """Stores the same passwords sealed anew: for clients nothing changes, so neither do the revision and who changed
    the credential last, and when."""
    renewed = (
        values(column("id", BigInteger), column("token", Text), name="renewed").data(list(token_by_id.items())).cte()
    )
    await session.execute(
        update(Credential)
        .where(Credential.id == renewed.c.id)
        .values(
            encrypted_password=renewed.c.token,
            updated_at=Credential.updated_at,
            updated_by=Credential.updated_by,
        )
    )
