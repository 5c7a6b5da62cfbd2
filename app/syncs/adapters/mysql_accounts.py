"""Accounts and roles of MySQL, from its grant tables: https://dev.mysql.com/doc/refman/8.4/en/grant-tables.html

Columns are named one by one, so that no password's hash is asked for.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from app.inventory.records import FoundAccount, JsonValue
from app.syncs.adapters.mysql_connection import MysqlConnection, Row
from app.syncs.adapters.mysql_release import Release
from app.syncs.adapters.mysql_rights import (
    GRANT_OPTION,
    NEEDED,
    RightsByAccount,
    account_name,
    breathe,
    flagged,
    flags,
    privilege_columns,
    rights_below_server,
)
from app.syncs.adapters.mysql_values import expires_at, json_list, moment_text, number, positive

DefaultRoles = Mapping[tuple[str, str], Sequence[str]]

_COLUMNS = (
    "User", "Host", "plugin", "account_locked", "password_expired", "UNIX_TIMESTAMP(password_last_changed)",
    "password_lifetime", "max_user_connections", "ssl_type", "@@GLOBAL.default_password_lifetime",
)  # fmt: skip
# Methods that know of a password's age: https://dev.mysql.com/doc/refman/8.4/en/password-management.html
_WITH_PASSWORD = frozenset({"mysql_native_password", "sha256_password", "caching_sha2_password"})


async def mysql_accounts(connection: MysqlConnection, release: Release) -> Sequence[FoundAccount]:
    """In ten questions; in seven before 8.0, which has no roles."""
    columns = await privilege_columns(connection, "user", "db")
    rows = await connection.ask(_question(columns["user"], release), len(_COLUMNS) + 2, grant=_needs("user"))
    rights = RightsByAccount()
    await rights_below_server(connection, columns["db"], rights)
    default_roles: DefaultRoles = {}
    if release.is_mysql_since(8, 0):
        await _add_dynamic_rights(connection, rights)
        await _add_roles(connection, rights)
        default_roles = await _default_roles(connection)
    found = []
    for count, row in enumerate(rows, start=1):
        found.append(_account(row, columns["user"], release, rights, default_roles))
        await breathe(count)
    return found


def _needs(table: str) -> str:
    return NEEDED.format(table=table)


def _question(privileges: Sequence[str], release: Release) -> str:
    # The attributes hold the hash of a second password, too: only the restrictions of partial revokes are taken.
    restrictions = "JSON_EXTRACT(User_attributes, '$.Restrictions')" if release.is_mysql_since(8, 0, 16) else "NULL"
    return f"SELECT {', '.join(_COLUMNS)}, {flags(privileges)}, {restrictions} FROM mysql.user"  # noqa: S608


async def _add_dynamic_rights(connection: MysqlConnection, rights: RightsByAccount) -> None:
    question = "SELECT USER, HOST, PRIV, WITH_GRANT_OPTION FROM mysql.global_grants"
    rows = await connection.ask(question, 4, grant=_needs("global_grants"))
    for count, (user, host, right, admin) in enumerate(rows, start=1):
        rights.of(user, host).add(right or "", grantable=admin == "Y")
        await breathe(count)


async def _add_roles(connection: MysqlConnection, rights: RightsByAccount) -> None:
    question = "SELECT TO_USER, TO_HOST, FROM_USER, FROM_HOST, WITH_ADMIN_OPTION FROM mysql.role_edges"
    rows = await connection.ask(question, 5, grant=_needs("role_edges"))
    for count, (user, host, role, role_host, admin) in enumerate(rows, start=1):
        rights.of(user, host).add_role(account_name(role, role_host), grantable=admin == "Y")
        await breathe(count)


async def _default_roles(connection: MysqlConnection) -> DefaultRoles:
    question = (
        "SELECT USER, HOST, DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST FROM mysql.default_roles "
        "ORDER BY DEFAULT_ROLE_USER, DEFAULT_ROLE_HOST"
    )
    roles: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for user, host, role, role_host in await connection.ask(question, 4, grant=_needs("default_roles")):
        roles[user or "", host or ""].append(account_name(role, role_host))
    return roles


def _account(
    row: Row, privileges: Sequence[str], release: Release, rights: RightsByAccount, default_roles: DefaultRoles
) -> FoundAccount:
    user, host, plugin, locked, expired, changed, lifetime, connections, _, default_lifetime, letters, _ = row
    account = rights.of(user, host)
    held = flagged(privileges, letters)
    for right in held:
        account.add(right, grantable=GRANT_OPTION in held and right != GRANT_OPTION)
    days = number(default_lifetime) if lifetime is None else number(lifetime)
    return FoundAccount(
        username=user or "",
        host=host or "",
        is_superuser="SUPER" in held,
        can_login=not _is_role(locked, expired, release),
        is_locked=locked == "Y",
        authentication_method=(plugin or "")[:64] or None,
        password_expires_at=expires_at(changed, days) if plugin in _WITH_PASSWORD else None,
        connection_limit=positive(connections),
        attributes=_attributes(row, default_roles),
        permissions=account.found(),
    )


def _is_role(locked: str | None, expired: str | None, release: Release) -> bool:
    """MySQL marks no roles; CREATE ROLE makes an account that is locked and whose password has expired."""
    return locked == "Y" and expired == "Y" and release.is_mysql_since(8, 0)


def _attributes(row: Row, default_roles: DefaultRoles) -> dict[str, JsonValue]:
    user, host, _, _, expired, changed, lifetime, _, tls, _, _, restrictions = row
    attributes: dict[str, JsonValue] = {
        "password_last_changed": moment_text(changed),
        "password_expired": expired == "Y" or None,
        "password_lifetime": number(lifetime),
        "ssl_type": tls or None,
        "default_roles": default_roles.get((user or "", host or "")),
        # Rights that the account has everywhere but there.
        "partial_revokes": [str(each) for each in map(_revoked, json_list(restrictions)) if each] or None,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _revoked(restriction: object) -> str | None:
    """`SELECT, INSERT on mysql`, of {"Database": "mysql", "Privileges": ["SELECT", "INSERT"]}."""
    if not isinstance(restriction, dict):
        return None
    privileges = restriction.get("Privileges")
    names = ", ".join(str(each) for each in privileges) if isinstance(privileges, list) else ""
    return f"{names} on {restriction.get('Database')}"
