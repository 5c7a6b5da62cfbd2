"""What syncs found, below `/instances/{instance_id}`: accounts, databases, settings, places in clusters, changes."""

from datetime import datetime
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator

from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.database.request_sessions import ReadSession
from app.errors import problem_responses
from app.fields import ResourceId, SearchText, in_utc, one_line
from app.inventory.reading_records import (
    AccountFilter,
    AccountRecord,
    ChangeFilter,
    ChangeRecord,
    DatabaseFilter,
    Found,
    HistoryRecord,
    RightsRecord,
)
from app.inventory.schemas import Account, AccountChange, Database, Member, Setting, SettingPage, SettingsChange
from app.inventory.service import InventoryService
from app.models.inventory import AccountChangeType
from app.pagination import Page, PageQuery

router = APIRouter(prefix="/instances/{instance_id}", tags=["Inventory"], route_class=GuardedRoute)
MAX_USERNAME_CHARACTERS = 255


def _username(text: str) -> str:
    return one_line("username", text)


Moment = Annotated[datetime, AfterValidator(in_utc)]
Username = Annotated[str, AfterValidator(_username)]
IsPresent = Annotated[bool, Query(description="False for those that the last sync did not see any more")]


@router.get(
    "/accounts",
    summary="List accounts",
    response_model=Page[Account],
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def list_accounts(
    session: ReadSession,
    instance_id: ResourceId,
    page: PageQuery,
    q: Annotated[SearchText | None, Query(description="Substring of the username, in any case")] = None,
    is_superuser: Annotated[bool | None, Query()] = None,
    is_present: IsPresent = True,
    classification_id: Annotated[ResourceId | None, Query(description="Only accounts in this class")] = None,
    sort: Annotated[
        str, Query(max_length=50, description="`id`, `username` or `first_seen_at`; `-` for descending")
    ] = "username",
) -> Response:
    """With their rights, and the classes that these put them in."""
    wanted = AccountFilter(q, is_superuser, is_present, classification_id)
    found = await InventoryService(session).accounts(instance_id, wanted, sort, page)
    return _as_json([_account(each) for each in found.items], found)


@router.get(
    "/databases",
    summary="List databases",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def list_databases(
    session: ReadSession,
    instance_id: ResourceId,
    page: PageQuery,
    q: Annotated[SearchText | None, Query(description="Substring of the name, in any case")] = None,
    is_system: Annotated[bool | None, Query()] = None,
    is_present: IsPresent = True,
    sort: Annotated[
        str, Query(max_length=50, description="`id`, `name` or `first_seen_at`; `-` for descending")
    ] = "name",
) -> Page[Database]:
    wanted = DatabaseFilter(q, is_system, is_present)
    found = await InventoryService(session).databases(instance_id, wanted, sort, page)
    return Page[Database].of([Database.model_validate(each) for each in found.items], found.next_cursor, found.total)


@router.get(
    "/change-logs",
    summary="List what changed about accounts",
    response_model=Page[AccountChange],
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def list_account_changes(
    session: ReadSession,
    instance_id: ResourceId,
    page: PageQuery,
    username: Annotated[Username | None, Query(max_length=MAX_USERNAME_CHARACTERS)] = None,
    change_type: Annotated[AccountChangeType | None, Query()] = None,
    since: Annotated[Moment | None, Query(description="At this moment or later; without a zone it is in UTC")] = None,
    until: Annotated[Moment | None, Query(description="Before this moment")] = None,
    sort: Annotated[
        str, Query(max_length=50, description="`-changed_at`, newest first, or `changed_at`, `id`, `-id`")
    ] = "-changed_at",
) -> Response:
    """Accounts that were added or are gone, rights that were given or taken, attributes that changed, as syncs saw it.
    The first sync of an instance finds everything and changes nothing: it logs nothing."""
    wanted = ChangeFilter(username, change_type, since, until)
    found = await InventoryService(session).changes(instance_id, wanted, sort, page)
    return _as_json([_change(each) for each in found.items], found)


@router.get(
    "/settings",
    summary="List settings",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def list_settings(
    session: ReadSession,
    instance_id: ResourceId,
    page: PageQuery,
    q: Annotated[SearchText | None, Query(description="Substring of the name, in any case")] = None,
) -> SettingPage:
    """The server's settings that matter as a sync last saw them, in order of name. None of them is a secret."""
    settings = await InventoryService(session).settings(instance_id, q, page)
    items = [Setting.model_validate(each) for each in settings.page.items]
    answer = SettingPage.of(items, settings.page.next_cursor, settings.page.total)
    answer.captured_at = settings.captured_at
    return answer


@router.get(
    "/settings/history",
    summary="List what changed about settings",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def list_settings_changes(session: ReadSession, instance_id: ResourceId, page: PageQuery) -> Page[SettingsChange]:
    """Newest first. The first sync of an instance changes nothing."""
    found = await InventoryService(session).settings_history(instance_id, page)
    return Page[SettingsChange].of([_settings_change(each) for each in found.items], found.next_cursor, found.total)


@router.get(
    "/members",
    summary="List places in replication and clusters",
    responses=problem_responses(400, 404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def list_members(session: ReadSession, instance_id: ResourceId, page: PageQuery) -> Page[Member]:
    """The instance's own: one, or on a SQL Server one for each availability group; none where it has told none."""
    found = await InventoryService(session).members(instance_id, page)
    return Page[Member].of([Member.model_validate(each) for each in found.items], found.next_cursor, found.total)


def _as_json(items: list[dict[str, object]], found: Found[object]) -> Response:
    """A page that is written straight from the records: rights can be long, and are passed on as they are stored."""
    body: dict[str, object] = {"items": items, "next_cursor": found.next_cursor}
    if found.total is not None:
        body["total"] = found.total
    return Response(orjson.dumps(body, option=orjson.OPT_UTC_Z), media_type="application/json")


def _account(account: AccountRecord) -> dict[str, object]:
    rights = account.permissions
    return account._asdict() | {
        "attributes": orjson.Fragment(account.attributes),
        "permissions": None if rights is None else _permissions(rights),
        "classifications": [each._asdict() for each in account.classifications],
    }


def _permissions(rights: RightsRecord) -> dict[str, object]:
    """The one value that is no JSON is a moment."""
    return {
        name: orjson.Fragment(value) if isinstance(value, str) else value for name, value in rights._asdict().items()
    }


def _change(change: ChangeRecord) -> dict[str, object]:
    return change._asdict() | {"changes": orjson.Fragment(change.changes)}


def _settings_change(change: HistoryRecord) -> SettingsChange:
    named = {"id": change.id, "captured_at": change.captured_at}
    return SettingsChange.model_validate(named | change.changes._asdict(), from_attributes=True)
