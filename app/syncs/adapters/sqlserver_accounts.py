"""Makes accounts of what SQL Server's catalogues say: logins, and what their users may do in each database."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.inventory.records import FoundAccount, JsonValue
from app.syncs.adapters.rights import Rights, reached_roles
from app.syncs.adapters.sqlserver_catalogue import (
    Database,
    DatabasePermission,
    DatabasePrincipal,
    Login,
    Membership,
    ServerPermission,
)

# Mapped to a certificate or a key: they hold rights, but nobody signs in as them.
_MAPPED = frozenset({"C", "K"})
_ROLE = "R"
# A user of the instance's is a login's; where there is none of the same SID, it is an orphan that nobody signs in as.
_SIGNS_IN_BY_ITSELF = frozenset({"DATABASE", "WINDOWS", "EXTERNAL"})


@dataclass(frozen=True, slots=True)
class ServerRights:
    logins: Sequence[Login]
    memberships: Sequence[Membership]
    permissions: Sequence[ServerPermission]


@dataclass(frozen=True, slots=True)
class DatabaseRights:
    database: Database
    principals: Sequence[DatabasePrincipal]
    memberships: Sequence[Membership]
    permissions: Sequence[DatabasePermission]


class AccountGathering:
    """An account is a login or a server role that somebody made; users that sign in without a login, and the roles
    that somebody made in a database, are `name@database` and `database.role`."""

    def __init__(self, server: ServerRights) -> None:
        self._rights: defaultdict[str, Rights] = defaultdict(Rights)
        self._logins = server.logins
        self._name_by_id = {login.principal_id: login.name for login in server.logins}
        self._name_by_sid = {login.sid: login.name for login in server.logins if login.sid}
        self._users: dict[str, FoundAccount] = {}
        for membership in server.memberships:
            if name := self._name_by_id.get(membership.member_id):
                self._rights[name].add_role(membership.role)
        for permission in server.permissions:
            if name := self._name_by_id.get(permission.grantee_id):
                _add_on_server(self._rights[name], permission)

    def add(self, found: DatabaseRights) -> None:
        name_by_id = self._names_in(found)
        database = found.database.name
        for membership in found.memberships:
            if name := name_by_id.get(membership.member_id):
                self._rights[name].add_role(f"{database}.{membership.role}")
        for permission in found.permissions:
            if name := name_by_id.get(permission.grantee_id):
                _add_in_database(self._rights[name], database, permission)

    def accounts(self) -> list[FoundAccount]:
        roles_of = {name: rights.roles for name, rights in self._rights.items()}
        found = [self._account(login, roles_of) for login in self._logins]
        taken = set(self._name_by_id.values())
        return found + [_with(self._rights, user) for name, user in self._users.items() if name not in taken]

    def _account(self, login: Login, roles_of: Mapping[str, set[str]]) -> FoundAccount:
        rights = self._rights[login.name]
        is_sysadmin = "sysadmin" in reached_roles(rights.roles, roles_of)
        return FoundAccount(
            username=login.name,
            is_superuser=is_sysadmin or "CONTROL SERVER" in rights.everywhere,
            can_login=login.type != _ROLE and login.type not in _MAPPED and "DENY CONNECT SQL" not in rights.everywhere,
            is_locked=login.is_disabled or login.is_locked == 1,
            authentication_method=None if login.type == _ROLE else login.type_desc.lower(),
            attributes=_attributes(login),
            permissions=rights.found(),
        )

    def _names_in(self, found: DatabaseRights) -> Mapping[int, str]:
        """Of the accounts that the database's principals are, by the principal's id."""
        names: dict[int, str] = {}
        for principal in found.principals:
            name = self._name_by_sid.get(principal.sid or b"") if principal.type != _ROLE else None
            user = None if name else _own_account(principal, found.database)
            if user is not None:
                self._users[user.username] = user
            if name or user:
                names[principal.principal_id] = name or (user.username if user else "")
        return names


def _own_account(principal: DatabasePrincipal, database: Database) -> FoundAccount | None:
    """Of a principal that belongs to no login, without its rights; None for what the server ships."""
    about: Mapping[str, JsonValue] = {"type": principal.type_desc.lower(), "database": database.name}
    if principal.type == _ROLE:
        is_made = not principal.is_fixed_role and principal.principal_id != 0 and not database.is_system
        name = f"{database.name}.{principal.name}"
        return FoundAccount(username=name, can_login=False, attributes=about) if is_made else None
    if principal.authentication not in _SIGNS_IN_BY_ITSELF:
        return None
    return FoundAccount(
        username=f"{principal.name}@{database.name}",
        authentication_method=principal.authentication.lower() + "_user",
        attributes=about,
    )


def _with(rights: Mapping[str, Rights], user: FoundAccount) -> FoundAccount:
    return FoundAccount(
        username=user.username,
        can_login=user.can_login,
        authentication_method=user.authentication_method,
        attributes=user.attributes,
        permissions=rights[user.username].found(),
    )


def _attributes(login: Login) -> Mapping[str, JsonValue]:
    told: Mapping[str, JsonValue] = {
        "type": login.type_desc.lower(),
        "is_disabled": login.is_disabled,
        "default_database": login.default_database,
        "default_language": login.default_language,
        "is_policy_checked": login.is_policy_checked,
        "is_expiration_checked": login.is_expiration_checked,
        "is_expired": _flag(login.is_expired),
        "must_change_password": _flag(login.must_change),
        # The server's own local time, as it tells it.
        "password_set": login.password_set.isoformat() if login.password_set else None,
        "created": login.created.isoformat(),
    }
    return {name: value for name, value in told.items() if value is not None}


def _flag(value: int | None) -> bool | None:
    return None if value is None else value == 1


def _add_on_server(rights: Rights, permission: ServerPermission) -> None:
    privilege, grantable = _privilege(permission.permission, permission.state), permission.state == "W"
    if permission.securable is None:
        rights.add(privilege, grantable=grantable)
    else:
        rights.add_on_object(f"{permission.class_desc}::{permission.securable}", privilege, grantable=grantable)


def _add_in_database(rights: Rights, database: str, permission: DatabasePermission) -> None:
    privilege, grantable = _privilege(permission.permission, permission.state), permission.state == "W"
    if permission.class_desc == "DATABASE":
        rights.add_on_database(database, privilege, grantable=grantable)
    else:
        rights.add_on_object(f"{database}.{_securable(permission)}", privilege, grantable=grantable)


def _privilege(name: str, state: str) -> str:
    return f"DENY {name}" if state == "D" else name


def _securable(permission: DatabasePermission) -> str:
    """`schema`, `schema.object`, `schema.object.column`, or as Transact-SQL writes other classes: `TYPE::name`."""
    named = [part for part in (permission.schema, permission.object, permission.column) if part is not None]
    if permission.class_desc in ("OBJECT_OR_COLUMN", "SCHEMA") and named:
        return ".".join(named)
    return f"{permission.class_desc}::{named[0] if named else permission.major_id}"
