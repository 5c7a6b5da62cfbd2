"""Accounts as they are stored and as a sync saw them, in the same form, and what the difference is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Final, NamedTuple

import orjson

from app.errors import FieldError
from app.fields import in_utc
from app.inventory.account_changes import Attribute, Rights
from app.inventory.records import FoundAccount, FoundPermissions, JsonValue, SyncCounts
from app.inventory.stored_text import canonical_json, digest_of, stored_name
from app.turns import in_turns

MAX_NAME_CHARACTERS: Final = 255
MAX_METHOD_CHARACTERS: Final = 64
MAX_CONNECTIONS: Final = 2**31 - 1
# Servers write never as infinity, which drivers tell as the last or the first moment there is.
_never: Final = datetime(9999, 1, 1, tzinfo=UTC)
_always: Final = datetime(1970, 1, 1, tzinfo=UTC)

# The columns of a snapshot, by which FoundPermissions names them too.
RIGHTS: Final = tuple(each.name for each in fields(FoundPermissions))
# Exact, as servers compare them.
AccountName = tuple[str, str]


class AccountAttributes(NamedTuple):
    """Of an account, what is neither its name nor a right; the names are the columns'."""

    is_superuser: bool
    can_login: bool
    is_locked: bool
    authentication_method: str | None
    password_expires_at: datetime | None
    connection_limit: int | None
    attributes: Mapping[str, JsonValue] | None

    def by_name(self) -> dict[str, Attribute]:
        """What else the server tells stands beside the rest, under the server's names."""
        columns: dict[str, Attribute] = self._asdict()
        columns.pop("attributes")
        return {**(self.attributes or {}), **columns}


class StoredAccount(NamedTuple):
    """`digest` is of the rights; None where none were ever seen."""

    id: int
    username: str
    host: str
    is_present: bool
    digest: str | None
    values: AccountAttributes


class SeenAccount(NamedTuple):
    username: str
    host: str
    values: AccountAttributes
    permissions: FoundPermissions
    digest: str

    @property
    def rights(self) -> Rights:
        rights: Rights = orjson.loads(_rights_json(self.permissions))
        return rights


@dataclass(frozen=True, slots=True)
class Pair:
    """An account that is known, and how it was seen."""

    stored: StoredAccount
    seen: SeenAccount

    @property
    def has_other_rights(self) -> bool:
        return self.stored.digest != self.seen.digest

    @property
    def has_other_values(self) -> bool:
        return self.stored.values != self.seen.values

    @property
    def differs(self) -> bool:
        return self.has_other_rights or self.has_other_values


@dataclass(slots=True)
class AccountDifferences:
    """`back` were away and are there again, `gone` were there. `is_first` tells that none was known before."""

    is_first: bool
    added: list[SeenAccount] = field(default_factory=list)
    back: list[Pair] = field(default_factory=list)
    changed: list[Pair] = field(default_factory=list)
    gone: list[StoredAccount] = field(default_factory=list)
    unchanged: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.back or self.changed or self.gone)

    @property
    def counts(self) -> SyncCounts:
        created, updated = len(self.added) + len(self.back), len(self.changed)
        return SyncCounts(created + updated + self.unchanged, created, updated, len(self.gone), self.unchanged)


async def seen_accounts(found: Sequence[FoundAccount]) -> dict[AccountName, SeenAccount]:
    """As they are stored. Of several with one name the first stands."""
    seen: dict[AccountName, SeenAccount] = {}
    async for account in in_turns(found):
        name = stored_name(account.username, MAX_NAME_CHARACTERS), stored_name(account.host, MAX_NAME_CHARACTERS)
        if name not in seen:
            seen[name] = _seen(name, account)
    return seen


async def differences(stored: Iterable[StoredAccount], seen: Mapping[AccountName, SeenAccount]) -> AccountDifferences:
    known = {(account.username, account.host): account for account in stored}
    result = AccountDifferences(is_first=not known)
    async for name, account in in_turns(seen.items()):
        before = known.get(name)
        if before is None:
            result.added.append(account)
        else:
            _sort_in(result, Pair(before, account))
    result.gone = [account for name, account in known.items() if account.is_present and name not in seen]
    return result


def _sort_in(result: AccountDifferences, pair: Pair) -> None:
    if not pair.stored.is_present:
        result.back.append(pair)
    elif pair.differs:
        result.changed.append(pair)
    else:
        result.unchanged += 1


def _seen(name: AccountName, account: FoundAccount) -> SeenAccount:
    method = account.authentication_method
    values = AccountAttributes(
        account.is_superuser,
        account.can_login,
        account.is_locked,
        None if method is None else stored_name(method, MAX_METHOD_CHARACTERS),
        _stored_moment(account.password_expires_at),
        _stored_limit(account.connection_limit),
        orjson.loads(canonical_json(account.attributes)) or None,
    )
    return SeenAccount(*name, values, account.permissions, digest_of(_rights_json(account.permissions)))


def _rights_json(permissions: FoundPermissions) -> bytes:
    return canonical_json({name: getattr(permissions, name) for name in RIGHTS})


def _stored_moment(moment: datetime | None) -> datetime | None:
    """In UTC; None, which is never, also for the end of time."""
    if moment is None:
        return None
    try:
        return max(in_utc(moment), _always) if moment.replace(tzinfo=UTC) < _never else None
    except FieldError:
        return _always


def _stored_limit(limit: int | None) -> int | None:
    """None, which is no limit, also for the negative numbers by which servers say so."""
    return None if limit is None or limit < 0 else min(limit, MAX_CONNECTIONS)
