"""Accounts, rules, syncs that apply these, and who is in which class then."""

from typing import Any

import httpx
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.classifications.assignment import AccountClassifier
from app.database import Database
from app.database.transactions import run_in_transaction
from app.inventory.account_sync import AccountSync
from app.inventory.instance_lock import hold_instance
from app.inventory.records import FoundAccount
from app.models.base import utc_now
from app.models.inventory import AccountClassificationAssignment, AccountPermission, InstanceAccount
from tests.factories import Registry

URL = "/api/v1/classifications"
SUPERUSERS = {"is_superuser": True}


async def create(client: httpx.AsyncClient, name: str = "superusers", **values: Any) -> dict[str, Any]:
    answer = await client.post(URL, json={"name": name, "rule": SUPERUSERS} | values)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def with_accounts(registry: Registry, *names: str, instance_id: int | None = None, **values: Any) -> int:
    """An instance with accounts, of which those named root* are superusers."""
    instance_id = instance_id or await registry.instance(**values)
    for name in names:
        account = await registry.insert(
            "instance_accounts", instance_id=instance_id, username=name, is_superuser=name.startswith("root")
        )
        await registry.insert(
            "account_permissions", instance_id=instance_id, account_id=account, digest=name, roles=[f"role of {name}"]
        )
    return int(instance_id)


async def assigned(database: Database, classification_id: int) -> dict[str, int]:
    """By name of the account, the version of the rule that matched."""
    statement = (
        select(InstanceAccount.username, AccountClassificationAssignment.rule_version)
        .join(AccountPermission, AccountPermission.account_id == InstanceAccount.id)
        .join(AccountClassificationAssignment, AccountClassificationAssignment.permission_id == AccountPermission.id)
        .where(AccountClassificationAssignment.classification_id == classification_id)
    )
    async with database.readers() as session:
        return {row[0]: row[1] for row in await session.execute(statement)}


async def classify(database: Database, instance_id: int) -> None:
    await run_in_transaction(database.writers, lambda session: AccountClassifier(session).assign(instance_id))


async def sync(database: Database, instance_id: int, *found: FoundAccount) -> None:
    await run_in_transaction(database.writers, lambda session: sync_in(session, instance_id, *found))


async def sync_in(session: AsyncSession, instance_id: int, *found: FoundAccount) -> None:
    """As syncs of accounts end."""
    await hold_instance(session, instance_id)
    await AccountSync(session).apply(instance_id, found, utc_now())
    await AccountClassifier(session).assign(instance_id)
