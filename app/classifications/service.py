"""Classifications: rules that put accounts into classes. Each opens its own transactions.

A rule is saved first, and then applied to the accounts that are known; the answer comes when both are done.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.recorder import AuditEntry, record
from app.classifications import assignment_repository, repository
from app.classifications.assignment import RuleApplication
from app.classifications.records import (
    ClassificationFilter,
    ClassificationPage,
    ClassificationRecord,
    ClassificationValues,
    Preview,
    RuleVersion,
)
from app.classifications.rules import parse
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import FieldError, NotFound, ParameterError
from app.pagination import PageRequest
from app.preconditions import require_match
from app.spaces.service import SpaceService
from app.taken_names import refusing_taken_name

# Of these the accounts that are in the class change.
_applied = frozenset({"rule", "is_enabled"})
MAX_PREVIEW_ITEMS = 200


class ClassificationService:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._application = RuleApplication(database)

    async def page(self, wanted: ClassificationFilter, sort: str, request: PageRequest) -> ClassificationPage:
        """Raises SpaceNotFound when the filter names a space that does not exist."""
        async with self._database.readers() as session:
            if wanted.space_id is not None:
                await SpaceService(session).resolve(wanted.space_id)
            return await repository.page(session, wanted, sort, request)

    async def get(self, classification_id: int) -> ClassificationRecord:
        async with self._database.readers() as session:
            return _found(await repository.find(session, classification_id), classification_id)

    async def versions(self, classification_id: int) -> list[RuleVersion]:
        """Every rule that it ever had, the present one first. Raises NotFound."""
        async with self._database.readers() as session:
            _found(await repository.find(session, classification_id), classification_id)
            return await repository.versions(session, classification_id)

    async def create(self, space_id: int | None, values: ClassificationValues) -> ClassificationRecord:
        """Raises ParameterError for a rule that cannot be understood, Conflict when the name is taken or the space is
        archived."""
        _require_rule(values)

        async def create(session: AsyncSession) -> ClassificationRecord:
            space = await SpaceService(session).resolve_open(space_id)
            await SpaceService(session).hold_open(space.id)
            with refusing_taken_name("the space has a classification", values["name"]):
                created = await repository.create(session, space.id, values)
            await _record(session, "classification:create", created, {"after": dict(values)})
            return created

        created = await run_in_transaction(self._database.writers, create)
        await self._application.apply(created.id, created.space_id)
        return created

    async def update(
        self, classification_id: int, values: ClassificationValues, if_match: str | None
    ) -> ClassificationRecord:
        """Sets what `values` names. Where nothing differs, nothing is written and the revision stays."""
        _require_rule(values)

        async def change(session: AsyncSession) -> tuple[ClassificationRecord, Mapping[str, Any]]:
            present = await _locked(session, classification_id, if_match)
            await SpaceService(session).hold_open(present.space_id)
            before = {name: getattr(present, name) for name, value in values.items() if getattr(present, name) != value}
            if not before:
                return present, before
            changes = {name: value for name, value in values.items() if name in before}
            with refusing_taken_name("the space has a classification", values.get("name")):
                changed = await repository.change(session, classification_id, changes)
            await _record(session, "classification:update", changed, {"before": before, "after": changes})
            return changed, before

        changed, before = await run_in_transaction(self._database.writers, change)
        if before.keys() & _applied:
            await self._application.apply(changed.id, changed.space_id)
        return changed

    async def delete(self, classification_id: int, if_match: str | None) -> None:
        """With its versions, and nobody is in the class any more."""

        async def delete(session: AsyncSession) -> None:
            present = await _locked(session, classification_id, if_match)
            await repository.remove(session, classification_id)
            before = {"name": present.name, "rule": present.rule}
            await _record(session, "classification:delete", present, {"before": before})

        await run_in_transaction(self._database.writers, delete)

    async def preview(self, rule: object, space_id: int | None, limit: int) -> Preview:
        """What the rule would match; nothing is saved. Raises ParameterError when it cannot be understood."""
        try:
            understood = parse(rule)
        except FieldError as refused:
            raise _refused(refused) from refused
        async with self._database.readers() as session:
            space_id = await SpaceService(session).resolve(space_id)
        accounts, matched, first = 0, 0, list[int]()
        async for count, found in self._application.matching(understood, space_id):
            accounts, matched = accounts + count, matched + len(found)
            first += found[: limit - len(first)]
        async with self._database.readers() as session:
            return Preview(accounts, matched, await assignment_repository.described(session, first))


async def _locked(session: AsyncSession, classification_id: int, if_match: str | None) -> ClassificationRecord:
    found = _found(await repository.lock(session, classification_id), classification_id)
    require_match(if_match, found.revision)
    return found


async def _record(
    session: AsyncSession, action: str, classification: ClassificationRecord, changes: dict[str, Any]
) -> None:
    entry = AuditEntry(
        action, "classification", classification.id, classification.name, classification.space_id, changes=changes
    )
    await record(session, entry)


def _require_rule(values: ClassificationValues) -> None:
    if "rule" not in values:
        return
    try:
        parse(values["rule"])
    except FieldError as refused:
        raise _refused(refused) from refused


def _refused(refused: FieldError) -> ParameterError:
    error = {"pointer": "/body/rule", "code": refused.code, "message": refused.message}
    return ParameterError(refused.message, members={"errors": [error]})


def _found(classification: ClassificationRecord | None, classification_id: int) -> ClassificationRecord:
    if classification is None:
        raise NotFound(f"there is no classification {classification_id}")
    return classification
