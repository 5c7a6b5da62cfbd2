"""Makes accounts of what Oracle's dictionary says: users, and the roles that somebody made."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.inventory.records import FoundAccount, JsonValue
from app.syncs.adapters.oracle_catalogue import (
    ObjectPrivilege,
    PasswordFileUser,
    Role,
    RoleGrant,
    SchemaPrivilege,
    SessionLimit,
    SystemPrivilege,
    User,
)
from app.syncs.adapters.rights import Rights, reached_roles

_DEFAULT = "DEFAULT"


@dataclass(frozen=True, slots=True)
class Dictionary:
    users: Sequence[User]
    roles: Sequence[Role]
    session_limits: Sequence[SessionLimit]
    role_grants: Sequence[RoleGrant]
    system_privileges: Sequence[SystemPrivilege]
    schema_privileges: Sequence[SchemaPrivilege]
    object_privileges: Sequence[ObjectPrivilege]
    password_file: Sequence[PasswordFileUser]


def accounts_in(dictionary: Dictionary) -> list[FoundAccount]:
    """A user is a superuser as SYS, with SYSDBA, or with the role DBA, through whatever other role."""
    rights = _rights(dictionary)
    roles_of = {name: each.roles for name, each in rights.items()}
    limits = {each.profile: each.limit for each in dictionary.session_limits}
    users = [_user(user, rights[user.username], roles_of, _sessions(user.profile, limits)) for user in dictionary.users]
    return users + [_role(role, rights[role.role]) for role in dictionary.roles]


def _rights(dictionary: Dictionary) -> Mapping[str, Rights]:
    rights: defaultdict[str, Rights] = defaultdict(Rights)
    for grant in dictionary.role_grants:
        rights[grant.grantee].add_role(grant.role, grantable=_yes(grant.admin_option))
    for right in dictionary.system_privileges:
        rights[right.grantee].add(right.privilege, grantable=_yes(right.admin_option))
    for on_schema in dictionary.schema_privileges:
        grantable = _yes(on_schema.admin_option)
        rights[on_schema.grantee].add_on_database(on_schema.schema, on_schema.privilege, grantable=grantable)
    for on_object in dictionary.object_privileges:
        name = ".".join(filter(None, (on_object.owner, on_object.object, on_object.column)))
        rights[on_object.grantee].add_on_object(name, on_object.privilege, grantable=_yes(on_object.grantable))
    for administrator in dictionary.password_file:
        for name, value in zip(administrator._fields[1:], administrator[1:], strict=True):
            if value == "TRUE":
                rights[administrator.username].add(name.upper())
    return rights


def _user(user: User, rights: Rights, roles_of: Mapping[str, set[str]], sessions: int | None) -> FoundAccount:
    is_dba = "DBA" in reached_roles(rights.roles, roles_of)
    return FoundAccount(
        username=user.username,
        is_superuser=user.username == "SYS" or "SYSDBA" in rights.everywhere or is_dba,
        # A schema without authentication is nobody's to sign in as.
        can_login=user.authentication_type != "NONE",
        is_locked="LOCKED" in user.account_status,
        authentication_method=user.authentication_type.lower() if user.authentication_type else None,
        password_expires_at=_utc(user.expiry_date),
        connection_limit=sessions,
        attributes=_attributes(user),
        permissions=rights.found(),
    )


def _role(role: Role, rights: Rights) -> FoundAccount:
    told: Mapping[str, JsonValue] = {"type": "role", "common": role.common, "authentication": role.authentication_type}
    attributes = {name: value for name, value in told.items() if value is not None}
    return FoundAccount(username=role.role, can_login=False, attributes=attributes, permissions=rights.found())


def _attributes(user: User) -> Mapping[str, JsonValue]:
    told: Mapping[str, JsonValue] = {
        "account_status": user.account_status,
        "lock_date": user.lock_date.isoformat() if user.lock_date else None,
        "profile": user.profile,
        "default_tablespace": user.default_tablespace,
        "temporary_tablespace": user.temporary_tablespace,
        "created": user.created.isoformat(),
        "common": user.common,
        "oracle_maintained": user.oracle_maintained,
    }
    return {name: value for name, value in told.items() if value is not None}


def _sessions(profile: str, limits: Mapping[str, str]) -> int | None:
    limit = limits.get(profile, _DEFAULT)
    limit = limits.get(_DEFAULT, "") if limit == _DEFAULT else limit
    return int(limit) if limit.isdecimal() else None


def _utc(moment: datetime | None) -> datetime | None:
    """The dictionary tells the server's local time without its zone; taken as UTC, it at least stays the same."""
    return moment.replace(tzinfo=UTC) if moment else None


def _yes(option: str) -> bool:
    return option == "YES"
