"""Brings an instance's places in replication and clusters in line with what its server tells."""

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, String
from sqlalchemy.ext.asyncio import AsyncSession

from app.inventory import member_repository as repository
from app.inventory.instance_lock import hold_instance
from app.inventory.member_repository import TABLES, Place
from app.inventory.records import Member, SqlserverMember
from app.inventory.stored_text import storable, stored_name


class MemberSync:
    """In the caller's transaction, of a session that may write."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def apply(self, instance_id: int, members: Sequence[Member], seen_at: datetime) -> None:
        """`members` are all places that there are: any other is removed, those of another kind of server too.

        Of two for one place the first stands. The instance must have been looked up. Raises NotFound when it is not
        there any more.
        """
        found = _by_place(members)
        known = await repository.known_places(self._session, instance_id)
        if found and not known:
            await hold_instance(self._session, instance_id)
        for place in sorted(known - found.keys(), key=_order):
            await repository.remove(self._session, instance_id, place)
        for kind in {place.kind: None for place in found}:
            of_kind = [member for place, member in sorted(found.items(), key=_by_order) if place.kind is kind]
            await repository.put(self._session, instance_id, kind, of_kind, seen_at)


def _by_place(members: Sequence[Member]) -> dict[Place, Member]:
    found: dict[Place, Member] = {}
    for member in map(_stored, members):
        group = member.group_name if isinstance(member, SqlserverMember) else ""
        found.setdefault(Place(type(member), group), member)
    return found


def _order(place: Place) -> tuple[str, str]:
    return place.kind.__name__, place.group


def _by_order(found: tuple[Place, Member]) -> tuple[str, str]:
    return _order(found[0])


def _stored(member: Member) -> Member:
    """The member with what its table's columns can hold."""
    columns = TABLES[type(member)].c
    values: dict[str, Any] = {
        field.name: _fitting(columns[field.name], getattr(member, field.name)) for field in fields(member)
    }
    return replace(member, **values)


def _fitting(column: Column[Any], value: str | int | None) -> str | int | None:
    if isinstance(value, str):
        length = column.type.length if isinstance(column.type, String) else None
        return storable(value) if length is None else stored_name(value, length)
    if isinstance(value, int) and isinstance(column.type, Integer):
        highest = 2**63 - 1 if isinstance(column.type, BigInteger) else 2**31 - 1
        return max(-highest - 1, min(value, highest))
    return value
