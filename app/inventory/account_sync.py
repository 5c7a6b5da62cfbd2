"""Brings what is known of an instance's accounts in line with what its server has.

1. What was found is put into the form in which it is stored, rights as a digest of their JSON.
2. It is compared with what is stored. When nothing differs, one statement notes when it was seen, and that is all.
3. Else the instance is held against other syncs and the comparison is made again, as one may have written meanwhile.
4. Accounts first: new ones are added, those that are back or look different are changed, those that are gone are marked
   so, and lose their classifications.
5. Then rights: first snapshots are added, others replaced where they differ.
6. Then what changed is logged. The first sync of an instance logs nothing: what it finds is no news.

Each step is a few statements, whatever the number of accounts.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain

from sqlalchemy.ext.asyncio import AsyncSession

from app.inventory import account_repository as repository
from app.inventory.account_changes import AccountChange, AttributeChange, Rights, beyond, changed_attributes
from app.inventory.account_states import (
    AccountAttributes,
    AccountDifferences,
    AccountName,
    Pair,
    SeenAccount,
    StoredAccount,
    differences,
    seen_accounts,
)
from app.inventory.instance_lock import hold_instance
from app.inventory.records import FoundAccount, SyncCounts
from app.models.inventory import AccountChangeType

_usual_flags = {"is_superuser": False, "can_login": True, "is_locked": False}


class AccountSync:
    """In the caller's transaction, of a session that may write."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def apply(self, instance_id: int, found: Sequence[FoundAccount], seen_at: datetime) -> SyncCounts:
        """`found` is everything that the server has: what is missing from it is gone.

        Those that are back count as created. Of two with the same username and host the first stands. The instance must
        have been looked up. Raises NotFound when it is not there any more and something would have to be written.
        """
        seen = await seen_accounts(found)
        differing = await self._compare(instance_id, seen)
        if differing:
            await hold_instance(self._session, instance_id)
            differing = await self._compare(instance_id, seen)
            await self._write(instance_id, differing, seen_at)
        if seen:
            await repository.refresh(self._session, instance_id, seen_at)
        return differing.counts

    async def _compare(self, instance_id: int, seen: Mapping[AccountName, SeenAccount]) -> AccountDifferences:
        return await differences(await repository.stored_accounts(self._session, instance_id), seen)

    async def _write(self, instance_id: int, differing: AccountDifferences, seen_at: datetime) -> None:
        session = self._session
        pairs = [*differing.back, *differing.changed]
        before = await repository.stored_rights(session, _with_rights_to_compare(differing))
        added = await repository.add(session, instance_id, differing.added, seen_at)
        await repository.change(
            session, instance_id, [pair for pair in pairs if pair.has_other_values or not pair.stored.is_present]
        )
        await repository.deactivate(session, instance_id, [account.id for account in differing.gone])
        others = [pair for pair in pairs if pair.has_other_rights]
        first = [(pair.stored.id, pair.seen) for pair in others if pair.stored.digest is None]
        await repository.add_rights(session, instance_id, [*added, *first], seen_at)
        known = [pair for pair in others if pair.stored.digest is not None]
        await repository.change_rights(session, instance_id, known, seen_at)
        if not differing.is_first:
            # In a thread: of a role with rights on every table, the comparison alone takes tens of milliseconds.
            changes = await asyncio.to_thread(list, _changes(differing, before))
            await repository.log(session, instance_id, changes, seen_at)


def _with_rights_to_compare(differing: AccountDifferences) -> list[int]:
    changed = (pair.stored.id for pair in differing.changed if pair.has_other_rights)
    return [*changed, *(account.id for account in differing.gone)]


def _changes(differing: AccountDifferences, before: Mapping[int, Rights]) -> Iterator[AccountChange]:
    """In the order added, changed, removed."""
    for account in chain(differing.added, (pair.seen for pair in differing.back)):
        yield _added(account)
    for pair in differing.changed:
        yield from _changed(pair, before.get(pair.stored.id, {}))
    for gone in differing.gone:
        yield _removed(gone, before.get(gone.id, {}))


def _added(account: SeenAccount) -> AccountChange:
    """With what distinguishes it from an account without any rights."""
    return AccountChange(
        AccountChangeType.ADDED,
        account.username,
        account.host,
        given=beyond(account.rights, {}),
        changed=_unusual(account.values),
    )


def _unusual(values: AccountAttributes) -> Mapping[str, AttributeChange]:
    flags = {name: getattr(values, name) for name in _usual_flags}
    return changed_attributes(_usual_flags, flags)


def _changed(pair: Pair, before: Rights) -> Iterator[AccountChange]:
    name = pair.seen.username, pair.seen.host
    if pair.has_other_rights:
        after = pair.seen.rights
        given, taken = beyond(after, before), beyond(before, after)
        # Snapshots can differ in order alone, after a change of how they are made.
        if given or taken:
            yield AccountChange(AccountChangeType.PRIVILEGES_CHANGED, *name, given, taken)
    if changed := changed_attributes(pair.stored.values.by_name(), pair.seen.values.by_name()):
        yield AccountChange(AccountChangeType.ATTRIBUTES_CHANGED, *name, changed=changed)


def _removed(account: StoredAccount, before: Rights) -> AccountChange:
    return AccountChange(AccountChangeType.REMOVED, account.username, account.host, taken=beyond(before, {}))
