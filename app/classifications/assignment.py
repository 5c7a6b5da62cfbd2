"""Puts accounts into classes: after each sync those of its instance, and after each change of a rule its matches.

After a sync, most often nothing has changed that classes follow from. A digest of all of that tells
(app.classifications.class_digest), which is noted at the instance by the transaction that makes its accounts' classes
what the rules say. Where it is another one, all accounts of the instance are judged again, some hundred at a time, and
what differs is written.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.classifications import assignment_repository, repository
from app.classifications.assignment_repository import Assignments, RulesOfInstance
from app.classifications.class_digest import digest_of_classes
from app.classifications.evaluation import JudgedAccount, Population, looked_at
from app.classifications.records import StoredRule
from app.classifications.rules import Rule, parse
from app.database import Database
from app.database.transactions import run_beside_requests
from app.errors import FieldError
from app.models.base import utc_now
from app.turns import in_turns

log = structlog.get_logger(__name__)

# Whose rights are read, judged and held in memory at a time.
STEP_ACCOUNTS: Final = 500
# Read, or assigned, in one transaction.
TRANSACTION_ACCOUNTS: Final = 2_000
_LAST_ID: Final = 2**63 - 1

# What assignments name of it, and what it says.
UnderstoodRule = tuple[tuple[int, int], Rule]


class AccountClassifier:
    """Works in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def assign(self, instance_id: int) -> None:
        """Makes the classes of the instance's accounts those that the space's rules say now. The caller must have
        looked the instance up and hold it."""
        found = await assignment_repository.rules_of_instance(self._session, instance_id)
        enabled = [rule for rule in found.rules if rule.is_enabled]
        if not enabled:
            await self._unassign(instance_id, found)
            return
        accounts = await assignment_repository.accounts_of_instance(self._session, instance_id)
        digest = await digest_of_classes(found.db_type, found.rules, accounts)
        if digest == found.classes_digest:
            return
        understood = list(_understood(enabled))
        await self._judge(instance_id, accounts, understood)
        # What cannot be understood, another version of the service may understand.
        is_final = len(understood) == len(enabled)
        await assignment_repository.note_classes_digest(self._session, instance_id, digest if is_final else None)

    async def _unassign(self, instance_id: int, found: RulesOfInstance) -> None:
        if found.has_assignments:
            await assignment_repository.remove_all_of_instance(self._session, instance_id)
        if found.classes_digest is not None:
            await assignment_repository.note_classes_digest(self._session, instance_id, None)

    async def _judge(
        self, instance_id: int, accounts: Sequence[JudgedAccount], rules: Sequence[UnderstoodRule]
    ) -> None:
        for step, after, until in _ranges(accounts):
            present = await assignment_repository.assignments_of_instance(self._session, instance_id, after, until)
            await _bring_in_line(self._session, step, rules, present)


class RuleApplication:
    """Applies one rule to every account of its space, some at a time, each in a transaction of its own: what stops it
    half-way is made good by the next syncs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(self, classification_id: int, space_id: int) -> None:
        """Whatever the rule is at that moment; one that is disabled matches nothing."""
        last: int | None = 0
        while last is not None:
            last = await self._apply_after(classification_id, space_id, last)

    async def matching(self, rule: Rule, space_id: int) -> AsyncIterator[tuple[int, list[int]]]:
        """Of each of the parts that the space's accounts are read in, how many there are and the `permission_id`s of
        those that the rule matches, in order."""
        last = 0
        while accounts := await self._read_after(space_id, last):
            last = accounts[-1].permission_id
            for step in _steps(accounts):
                async with self._database.batch_connections, self._database.readers() as session:
                    matches = await _matches(session, step, [((0, 0), rule)])
                yield len(step), sorted(matches[0, 0])

    async def _read_after(self, space_id: int, permission_id: int) -> list[JudgedAccount]:
        async with self._database.batch_connections, self._database.readers() as session:
            return await assignment_repository.accounts_after(session, space_id, permission_id, TRANSACTION_ACCOUNTS)

    async def _apply_after(self, classification_id: int, space_id: int, permission_id: int) -> int | None:
        """To the accounts that come next; the last one's `permission_id`, or None where there are no more."""

        async def apply(session: AsyncSession) -> int | None:
            # Whoever changes it meanwhile waits, and applies it once more. So do syncs of the space: accounts that are
            # read behind this are as the last sync left them, or that one judges them anew.
            found = await repository.lock(session, classification_id)
            if found is None:
                return None
            accounts = await assignment_repository.accounts_after(
                session, space_id, permission_id, TRANSACTION_ACCOUNTS, are_held=True
            )
            rule = StoredRule(found.id, found.revision, found.rule_version, found.is_enabled, found.rule)
            understood = list(_understood([rule] if rule.is_enabled else []))
            for step in _steps(accounts):
                ids = [each.permission_id for each in step]
                present = await assignment_repository.assignments_of(session, classification_id, ids)
                await _bring_in_line(session, step, understood, present)
            return accounts[-1].permission_id if accounts else None

        return await run_beside_requests(self._database, apply)


async def _bring_in_line(
    session: AsyncSession, accounts: Sequence[JudgedAccount], rules: Sequence[UnderstoodRule], present: Assignments
) -> None:
    """Makes of the assignments that the accounts have those that the rules give them."""
    wanted = await _matches(session, accounts, rules)
    taken, given = _beyond(present, wanted), _beyond(wanted, present)
    # First, as a class may be taken by one version of its rule and given by another.
    await assignment_repository.take(session, taken)
    if given:
        instance_ids = {each.permission_id: each.instance_id for each in accounts}
        await assignment_repository.give(session, given, instance_ids, utc_now())


async def _matches(
    session: AsyncSession, accounts: Sequence[JudgedAccount], rules: Sequence[UnderstoodRule]
) -> dict[tuple[int, int], set[int]]:
    population = Population(accounts)
    names = looked_at(rule for _, rule in rules)
    if names and accounts:
        async for permission_id, rights in assignment_repository.rights_of(session, population.representatives, names):
            population.learn(permission_id, rights)
        await asyncio.sleep(0)
    return {
        version: {accounts[index].permission_id for index in population.matching(rule)}
        async for version, rule in in_turns(rules)
    }


def _beyond(some: Assignments, others: Assignments) -> Assignments:
    """What the one has and the other has not."""
    beyond = {version: ids - others.get(version, set()) for version, ids in some.items()}
    return {version: ids for version, ids in beyond.items() if ids}


def _understood(rules: Iterable[StoredRule]) -> Iterator[UnderstoodRule]:
    """One that cannot be understood says nothing, of anybody."""
    for stored in rules:
        try:
            yield (stored.classification_id, stored.rule_version), parse(stored.rule)
        except FieldError as error:
            log.warning(
                "a classification's rule cannot be understood, and matches nothing",
                classification_id=stored.classification_id,
                reason=error.message,
            )


def _ranges(accounts: Sequence[JudgedAccount]) -> Iterator[tuple[Sequence[JudgedAccount], int, int]]:
    """The steps, at least one, each with the ids after and until which it goes: between them, and after the last, are
    accounts that are gone."""
    after = 0
    for start in range(0, max(1, len(accounts)), STEP_ACCOUNTS):
        step = accounts[start : start + STEP_ACCOUNTS]
        until = step[-1].permission_id if start + STEP_ACCOUNTS < len(accounts) else _LAST_ID
        yield step, after, until
        after = until


def _steps(accounts: Sequence[JudgedAccount]) -> Iterator[Sequence[JudgedAccount]]:
    return (accounts[start : start + STEP_ACCOUNTS] for start in range(0, len(accounts), STEP_ACCOUNTS))
