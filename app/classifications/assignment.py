"""Puts accounts into classes: after each sync those of its instance, and after each change of a rule its matches."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.classifications import assignment_repository, repository
from app.classifications.assignment_repository import Assignment
from app.classifications.evaluation import JudgedAccount, Population
from app.classifications.records import StoredRule
from app.classifications.rules import Rule, parse
from app.database import Database
from app.database.transactions import run_beside_requests
from app.errors import FieldError
from app.models.base import utc_now

log = structlog.get_logger(__name__)

# Judged by fifty rules they hold the event loop for some milliseconds.
PART_ACCOUNTS = 100
# Read, or assigned, in one transaction.
STEP_ACCOUNTS = 2_000


class AccountClassifier:
    """Works in the caller's transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def assign(self, instance_id: int) -> None:
        """Makes the classes of the instance's accounts those that the space's rules say now. The instance must have
        been looked up."""
        rules, has_assignments = await assignment_repository.applied_rules(self._session, instance_id)
        if not rules:
            if has_assignments:
                await assignment_repository.remove_all_of_instance(self._session, instance_id)
            return
        accounts = await assignment_repository.accounts_of_instance(self._session, instance_id)
        present = await assignment_repository.assignments_of_instance(self._session, instance_id)
        wanted = {each async for each in _assigned(accounts, rules)}
        given = [(instance_id, each) for each in sorted(wanted - present)]
        await assignment_repository.replace(self._session, present - wanted, given, utc_now())


class RuleApplication:
    """Applies one rule to every account of its space, some at a time, each in a transaction of its own: what stops it
    half-way is made good by the next syncs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(self, classification_id: int, space_id: int) -> None:
        """Whatever the rule is at that moment; one that is disabled matches nothing."""
        last = 0
        while accounts := await self._next(space_id, last):
            last = accounts[-1].permission_id
            await self._apply_to(classification_id, accounts)

    async def matching(self, rule: Rule, space_id: int) -> AsyncIterator[tuple[int, list[JudgedAccount]]]:
        """Of each of the parts that the space's accounts are read in, how many there are and which the rule matches."""
        last = 0
        while accounts := await self._next(space_id, last):
            last = accounts[-1].permission_id
            for part in _parts(accounts):
                yield len(part), [part[index] for index in sorted(Population(part).matching(rule))]
                await asyncio.sleep(0)

    async def _next(self, space_id: int, permission_id: int) -> list[JudgedAccount]:
        async with self._database.batch_connections, self._database.readers() as session:
            return await assignment_repository.accounts_after(session, space_id, permission_id, STEP_ACCOUNTS)

    async def _apply_to(self, classification_id: int, accounts: Sequence[JudgedAccount]) -> None:
        async def apply(session: AsyncSession) -> None:
            # Whoever changes it meanwhile waits, and applies it once more.
            found = await repository.lock(session, classification_id)
            if found is None:
                return
            rules = [StoredRule(found.id, found.rule_version, found.rule)] if found.is_enabled else []
            ids = [each.permission_id for each in accounts]
            present = await assignment_repository.assignments_of(session, classification_id, ids)
            wanted = {each async for each in _assigned(accounts, rules)}
            # Syncs may have removed some of them since they were read.
            there = await assignment_repository.still_there(session, ids)
            instances = {each.permission_id: each.instance_id for each in accounts}
            given = [(instances[each.permission_id], each) for each in sorted(wanted - present) if each[0] in there]
            await assignment_repository.replace(session, present - wanted, given, utc_now())

        await run_beside_requests(self._database, apply)


async def _assigned(accounts: Sequence[JudgedAccount], rules: Sequence[StoredRule]) -> AsyncIterator[Assignment]:
    """What the rules say of the accounts; one that cannot be understood says nothing, of anybody."""
    understood = list(_understood(rules))
    for part in _parts(accounts):
        population = Population(part)
        for stored, rule in understood:
            for index in population.matching(rule):
                yield Assignment(part[index].permission_id, stored.classification_id, stored.rule_version)
        await asyncio.sleep(0)


def _understood(rules: Iterable[StoredRule]) -> Iterator[tuple[StoredRule, Rule]]:
    for stored in rules:
        try:
            yield stored, parse(stored.rule)
        except FieldError as error:
            log.warning(
                "a classification's rule cannot be understood, and matches nothing",
                classification_id=stored.classification_id,
                reason=error.message,
            )


def _parts(accounts: Sequence[JudgedAccount]) -> Iterator[Sequence[JudgedAccount]]:
    return (accounts[start : start + PART_ACCOUNTS] for start in range(0, len(accounts), PART_ACCOUNTS))
