"""The rights below the server's level, which MySQL and MariaDB keep in the same tables, each read by one question.

The tables: https://dev.mysql.com/doc/refman/8.4/en/grant-tables.html and
https://mariadb.com/kb/en/the-mysql-database-tables/
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from app.syncs.adapters.mysql_connection import MysqlConnection, Row
from app.syncs.adapters.rights import Rights
from app.syncs.failures import FailureKind, ServerFailure

# Rows between two looks at the event loop: a server can have hundreds of thousands of them.
SLICE_ROWS = 500
GRANT_OPTION = "GRANT OPTION"
NEEDED = "GRANT SELECT ON mysql.{table} TO …"

# Columns `…_priv` of mysql.user and mysql.db whose name is not that of the right.
_right_by_column = {
    "grant": GRANT_OPTION,
    "show_db": "SHOW DATABASES",
    "create_tmp_table": "CREATE TEMPORARY TABLES",
    "repl_slave": "REPLICATION SLAVE",
    "repl_client": "REPLICATION CLIENT",
    "delete_history": "DELETE HISTORY",
}
# Members of the sets in tables_priv and procs_priv, in capitals.
_right_by_member = {"GRANT": GRANT_OPTION, "DELETE VERSIONING ROWS": "DELETE HISTORY"}


class RightsByAccount:
    """By user and host, as the tables have them; a role of MariaDB's has no host."""

    def __init__(self) -> None:
        self._rights: defaultdict[tuple[str, str], Rights] = defaultdict(Rights)

    def of(self, user: str | None, host: str | None) -> Rights:
        return self._rights[user or "", host or ""]


async def rights_below_server(
    connection: MysqlConnection, database_columns: Sequence[str], rights: RightsByAccount
) -> None:
    """Adds those on databases, tables, columns, routines, and accounts. `database_columns` are mysql.db's `…_priv`."""
    await _on_databases(connection, database_columns, rights)
    for table, columns in _OBJECT_TABLES.items():
        question = f"SELECT User, Host, {columns} FROM mysql.{table}"  # noqa: S608 - names of ours
        for number, row in enumerate(await connection.ask(question, 7, grant=NEEDED.format(table=table)), start=1):
            _add_on_object(rights, row)
            await breathe(number)
    await _as_proxies(connection, rights)


# The kind of routine, the parts of the name, and the set of rights.
_OBJECT_TABLES = {
    "tables_priv": "NULL, Db, Table_name, NULL, Table_priv",
    "columns_priv": "NULL, Db, Table_name, Column_name, Column_priv",
    "procs_priv": "Routine_type, Db, Routine_name, NULL, Proc_priv",
}


async def privilege_columns(connection: MysqlConnection, *tables: str) -> dict[str, list[str]]:
    """By table, its columns `…_priv` in order: each release has other ones. Only those that may be read are listed."""
    names = ", ".join(f"'{table}'" for table in tables)
    question = (
        "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'mysql' "  # noqa: S608
        f"AND TABLE_NAME IN ({names}) AND COLUMN_NAME LIKE '%\\_priv' ORDER BY TABLE_NAME, ORDINAL_POSITION"
    )
    columns: dict[str, list[str]] = {table: [] for table in tables}
    for table, column in await connection.ask(question, 2):
        # It is put into a question again, and the server is not trusted that far.
        if table in columns and column is not None and column.replace("_", "").isalnum():
            columns[table].append(column)
    for table in (each for each in tables if not columns[each]):
        message = f"the columns of mysql.{table} may not be read"
        raise ServerFailure(FailureKind.PERMISSION_MISSING, message, NEEDED.format(table=table))
    return columns


def flags(columns: Sequence[str]) -> str:
    """An expression for all of them in one value, a letter for each: cells are what costs on large servers."""
    return f"CONCAT({', '.join(columns)})" if columns else "''"


def flagged(columns: Sequence[str], letters: str | None) -> list[str]:
    """The rights whose letter is Y."""
    pairs = zip(columns, letters or "", strict=False)
    return [_right_of(column) for column, letter in pairs if letter == "Y"]


async def breathe(number: int) -> None:
    """Lets others have the event loop, once for each slice of rows."""
    if number % SLICE_ROWS == 0:
        await asyncio.sleep(0)


def account_name(user: str | None, host: str | None) -> str:
    """As roles are commonly written: with their host only when it is not just any."""
    return f"{user or ''}@{host}" if host and host != "%" else user or ""


async def _on_databases(connection: MysqlConnection, columns: Sequence[str], rights: RightsByAccount) -> None:
    question = f"SELECT User, Host, Db, {flags(columns)} FROM mysql.db"  # noqa: S608 - names that were checked
    rows = await connection.ask(question, 4, grant=NEEDED.format(table="db"))
    for number, (user, host, database, letters) in enumerate(rows, start=1):
        held = flagged(columns, letters)
        account = rights.of(user, host)
        for right in held:
            account.add_on_database(database or "", right, grantable=_is_grantable(right, held))
        await breathe(number)


def _add_on_object(rights: RightsByAccount, row: Row) -> None:
    user, host, kind, *parts, members = row
    name = ".".join(_quoted(part) for part in parts if part is not None)
    held = [_right_by_member.get(each, each) for each in (members or "").upper().split(",") if each]
    account = rights.of(user, host)
    for right in held:
        account.add_on_object(f"{kind} {name}" if kind else name, right, grantable=_is_grantable(right, held))


def _quoted(part: str) -> str:
    """So that no dot of a name is taken for one between names."""
    return "`" + part.replace("`", "``") + "`" if "." in part or "`" in part else part


async def _as_proxies(connection: MysqlConnection, rights: RightsByAccount) -> None:
    question = "SELECT User, Host, Proxied_user, Proxied_host, With_grant FROM mysql.proxies_priv"
    for user, host, proxied, proxied_host, with_grant in await connection.ask(
        question, 5, grant=NEEDED.format(table="proxies_priv")
    ):
        name = f"{proxied or ''}@{proxied_host or ''}"
        rights.of(user, host).add_on_object(name, "PROXY", grantable=with_grant == "1")


def _is_grantable(right: str, held: Sequence[str]) -> bool:
    """Whoever has the grant option at a level may pass on all that he has there."""
    return GRANT_OPTION in held and right != GRANT_OPTION


def _right_of(column: str) -> str:
    name = column.lower().removesuffix("_priv")
    return _right_by_column.get(name, name.replace("_", " ").upper())
