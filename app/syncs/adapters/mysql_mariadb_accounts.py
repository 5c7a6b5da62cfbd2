"""Accounts and roles of MariaDB, which keeps them as JSON: https://mariadb.com/kb/en/mysqlglobal_priv-table/

The JSON holds the passwords' hashes too. They stay on the server: what is wanted is named, member by member.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from app.inventory.records import FoundAccount, JsonValue
from app.syncs.adapters.mysql_connection import MysqlConnection, Row
from app.syncs.adapters.mysql_release import Release
from app.syncs.adapters.mysql_rights import (
    GRANT_OPTION,
    NEEDED,
    RightsByAccount,
    breathe,
    privilege_columns,
    rights_below_server,
)
from app.syncs.adapters.mysql_values import expires_at, json_list, moment_text, number, positive

# By their bits in `access`, from 0: enum privilege_t of sql/privilege.h in MariaDB's source.
_RIGHTS = (
    "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "RELOAD", "SHUTDOWN", "PROCESS", "FILE", GRANT_OPTION,
    "REFERENCES", "INDEX", "ALTER", "SHOW DATABASES", "SUPER", "CREATE TEMPORARY TABLES", "LOCK TABLES", "EXECUTE",
    "REPLICATION SLAVE", "BINLOG MONITOR", "CREATE VIEW", "SHOW VIEW", "CREATE ROUTINE", "ALTER ROUTINE",
    "CREATE USER", "EVENT", "TRIGGER", "CREATE TABLESPACE", "DELETE HISTORY", "SET USER", "FEDERATED ADMIN",
    "CONNECTION ADMIN", "READ_ONLY ADMIN", "REPLICATION SLAVE ADMIN", "REPLICATION MASTER ADMIN", "BINLOG ADMIN",
    "BINLOG REPLAY", "SLAVE MONITOR", "SHOW CREATE ROUTINE",
)  # fmt: skip
_FIRST_OF_10_5 = _RIGHTS.index("SET USER")
_MEMBERS = (
    "access", "plugin", "account_locked", "is_role", "default_role", "password_last_changed", "password_lifetime",
    "max_user_connections", "max_statement_time", "ssl_type",
)  # fmt: skip
# `ssl_type` in the JSON is SSL_type of MariaDB's sql/structs.h.
_tls_by_number = {"1": "ANY", "2": "X509", "3": "SPECIFIED"}
_QUESTION = (
    "SELECT User, Host, "  # noqa: S608 - names of ours
    + ", ".join(f"JSON_VALUE(Priv, '$.{member}')" for member in _MEMBERS)
    + ", JSON_EXTRACT(Priv, '$.auth_or[*].plugin'), @@GLOBAL.default_password_lifetime FROM mysql.global_priv"
)


async def mariadb_accounts(connection: MysqlConnection, release: Release) -> Sequence[FoundAccount]:
    """Sorted as the server has them; in eight questions."""
    rights = RightsByAccount()
    columns = await privilege_columns(connection, "db")
    rows = await connection.ask(_QUESTION, len(_MEMBERS) + 4, grant=NEEDED.format(table="global_priv"))
    await rights_below_server(connection, columns["db"], rights)
    await _add_roles(connection, rights)
    found = []
    for count, row in enumerate(rows, start=1):
        found.append(_account(row, release, rights))
        await breathe(count)
    return found


async def _add_roles(connection: MysqlConnection, rights: RightsByAccount) -> None:
    question = "SELECT User, Host, Role, Admin_option FROM mysql.roles_mapping"
    rows = await connection.ask(question, 4, grant=NEEDED.format(table="roles_mapping"))
    for user, host, role, admin in rows:
        rights.of(user, host).add_role(role or "", grantable=admin == "Y")


def _account(row: Row, release: Release, rights: RightsByAccount) -> FoundAccount:
    user, host, access, plugin, is_locked, is_role, *_ = row
    account = rights.of(user, host)
    held = list(_rights(access, release))
    for right in held:
        account.add(right, grantable=GRANT_OPTION in held and right != GRANT_OPTION)
    return FoundAccount(
        username=user or "",
        host=host or "",
        is_superuser="SUPER" in held,
        can_login=not _is_true(is_role),
        is_locked=_is_true(is_locked),
        authentication_method=None if _is_true(is_role) else _methods(plugin, row[12]),
        password_expires_at=_expires_at(row),
        connection_limit=positive(row[9]),
        attributes=_attributes(row),
        permissions=account.found(),
    )


def _rights(access: str | None, release: Release) -> Iterator[str]:
    """Before 10.5 the upper bits mean nothing, and the binary log's right had its older name."""
    bits = number(access) or 0
    is_before_10_5 = not release.is_mariadb_since(10, 5)
    names = _RIGHTS[:_FIRST_OF_10_5] if is_before_10_5 else _RIGHTS
    for place, name in enumerate(names):
        if bits >> place & 1:
            yield "REPLICATION CLIENT" if is_before_10_5 and name == "BINLOG MONITOR" else name


def _methods(plugin: str | None, alternatives: str | None) -> str | None:
    """Joined where the account may sign in by one of several; the first is the one with the password."""
    methods = [plugin] if plugin else []
    for each in json_list(alternatives):
        if isinstance(each, str) and each not in methods:
            methods.append(each)
    return ",".join(methods)[:64] or None


def _expires_at(row: Row) -> datetime | None:
    """MariaDB notes a password that was expired by hand as changed at 0."""
    changed, lifetime, default_lifetime = row[7], row[8], row[13]
    days = number(lifetime)
    return expires_at(changed, number(default_lifetime) if days in (None, -1) else days)


def _attributes(row: Row) -> dict[str, JsonValue]:
    default_role, changed, lifetime, statement_seconds, tls = row[6], row[7], row[8], row[10], row[11]
    attributes: dict[str, JsonValue] = {
        "is_role": _is_true(row[5]) or None,
        "default_role": default_role or None,
        "password_last_changed": moment_text(changed),
        "password_expired": (changed == "0" and not _is_true(row[4])) or None,
        "password_lifetime": number(lifetime) if lifetime != "-1" else None,
        "max_statement_time": None if statement_seconds in (None, "0.000000") else statement_seconds,
        "ssl_type": _tls_by_number.get(tls or ""),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _is_true(value: str | None) -> bool:
    """MariaDB's JSON_VALUE writes true as 1."""
    return value in ("1", "true")
