"""The first start: makes the administrator, without whom nobody could sign in, and a key to try things with.

Several servers may start at once. The unique name decides who makes the administrator, in one transaction with
everything else; the others find that it is done.
"""

from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from asyncpg import PostgresError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.identities import Identities
from app.access.permissions import ADMIN, BUILT_IN_ROLES, OPERATOR
from app.commands.configuration import identities_of, reason_of
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import Conflict
from app.models.base import utc_now
from app.pagination import PageRequest
from app.users.api_key_service import ApiKeyService
from app.users.grant_service import GrantService
from app.users.passwords import generate_password
from app.users.records import UserFilter
from app.users.service import UserService

log = structlog.get_logger(__name__)

USERNAME = "admin"
KEY_NAME = "first-start"
KEY_LIFETIME = timedelta(hours=24)
# The daily work: enough to try it. For more, the administrator signs in.
KEY_SCOPES = BUILT_IN_ROLES[OPERATOR]


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What is shown, once. Nothing is where the password was configured: who starts servers unattended keeps what they
    print, and no secret belongs there."""

    password: str | None = field(repr=False)
    api_key: str | None = field(repr=False)


async def start_first(database: Database, configured_password: str | None) -> FirstStart | None:
    """Makes the administrator if there is no user at all; None when there is one.

    Raises ParameterError for a configured password that is refused. A database that cannot be used does not stop the
    start, as nowhere else: /health/ready tells, and the next start looks again.
    """
    try:
        if await _has_users(database):
            return None
        return await _made(database, configured_password)
    except Conflict:
        # Another server, which started at the same time, was faster.
        return None
    except (SQLAlchemyError, PostgresError, OSError) as error:
        log.warning("whether this is the first start cannot be told yet", error=reason_of(error))
        return None


async def _has_users(database: Database) -> bool:
    async with database.readers() as session:
        one = PageRequest(limit=1, cursor=None, include_total=False)
        return bool((await UserService(session, identities_of(database)).page(UserFilter(), "id", one)).items)


async def _made(database: Database, configured_password: str | None) -> FirstStart:
    identities = identities_of(database)
    password = generate_password() if configured_password is None else configured_password

    async def make(session: AsyncSession) -> FirstStart:
        user_id = await _make_administrator(session, identities, password)
        if configured_password is not None:
            return FirstStart(None, None)
        return FirstStart(password, await _make_key(session, identities, user_id))

    return await run_in_transaction(database.writers, make)


async def _make_administrator(session: AsyncSession, identities: Identities, password: str) -> int:
    user = await UserService(session, identities).create({"username": USERNAME, "password": password})
    grants = GrantService(session, identities)
    await grants.grant(user.id, (await grants.role_named(ADMIN)).id, space_id=None)
    return user.id


async def _make_key(session: AsyncSession, identities: Identities, user_id: int) -> str:
    keys = ApiKeyService(session, identities)
    _, key = await keys.create(user_id, KEY_NAME, KEY_SCOPES, utc_now() + KEY_LIFETIME)
    return key
