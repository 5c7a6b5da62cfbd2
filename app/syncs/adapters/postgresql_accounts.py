"""Makes accounts of what PostgreSQL's catalogue says about roles and grants.

Decided here:

- Every role is an account, groups and predefined roles (`pg_…`) too; these hold rights, and are given to others.
- PUBLIC is listed like a role, as `public`, which no role can be named: what is granted to it, everybody has.
- What a role may do to the server as a whole stands in `global_privileges`, by the words of CREATE ROLE, with what it
  was granted on tablespaces and parameters (`CREATE ON TABLESPACE fast`).
- Rights of owners on what they own are left out, but for databases, where the default rights show as well.
- A part of an object's name that holds a dot or a double quote is quoted, so that no two names read alike.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from asyncpg import Record

from app.inventory.records import FoundAccount, JsonValue
from app.syncs.adapters.rights import Rights

PUBLIC = "public"
# Grantee of what is granted to everybody.
_PUBLIC_OID = 0

_WORDS = (
    ("rolsuper", "SUPERUSER"),
    ("rolcreatedb", "CREATEDB"),
    ("rolcreaterole", "CREATEROLE"),
    ("rolreplication", "REPLICATION"),
    ("rolbypassrls", "BYPASSRLS"),
)
# From 16 on a role may be held without its rights, or without SET ROLE.
_MEMBERSHIP_LIMITS = (("inherits", "NOINHERIT"), ("can_set", "NOSET"))


class Accounts:
    """Gathers what the catalogue's questions answered; rows about roles that came or went meanwhile are left out."""

    def __init__(self, roles: Sequence[Record]) -> None:
        self._roles = roles
        self._names: dict[int, str] = {row["oid"]: row["name"] for row in roles}
        self._rights: dict[int, Rights] = {oid: Rights() for oid in (_PUBLIC_OID, *self._names)}
        # By member and granted role, what the membership does not give.
        self._limits: defaultdict[int, dict[str, list[str]]] = defaultdict(dict)

    def add_memberships(self, rows: Iterable[Record]) -> None:
        for row in rows:
            rights, role = self._rights.get(row["member"]), self._names.get(row["roleid"])
            if rights is None or role is None:
                continue
            rights.add_role(role, grantable=row["is_admin"])
            limits = [word for column, word in _MEMBERSHIP_LIMITS if not row[column]]
            if limits:
                self._limits[row["member"]][role] = limits

    def add_server_grants(self, rows: Iterable[Record]) -> None:
        """On tablespaces and parameters."""
        for rights, row in self._held(rows):
            for privilege in row["privileges"]:
                right = f"{privilege} ON {row['kind']} {row['name']}"
                rights.add(right, grantable=privilege in row["grantable"])

    def add_database_grants(self, rows: Iterable[Record]) -> None:
        for rights, row in self._held(rows):
            for privilege in row["privileges"]:
                rights.add_on_database(row["name"], privilege, grantable=privilege in row["grantable"])

    def add_object_grants(self, database: str, rows: Iterable[Record]) -> None:
        for rights, row in self._held(rows):
            name = _object_name(database, row)
            for privilege in row["privileges"]:
                rights.add_on_object(name, privilege, grantable=privilege in row["grantable"])

    def _held(self, rows: Iterable[Record]) -> Iterator[tuple[Rights, Record]]:
        for row in rows:
            if (rights := self._rights.get(row["grantee"])) is not None:
                yield rights, row

    def found(self, username: str, unread_databases: Sequence[str]) -> list[FoundAccount]:
        """Sorted by name. `unread_databases` are those that `username`, the asking account, was not let in to."""
        accounts = [self._account(row, unread_databases if row["name"] == username else ()) for row in self._roles]
        public = self._rights[_PUBLIC_OID].found()
        accounts.append(FoundAccount(PUBLIC, can_login=False, attributes={"everybody": True}, permissions=public))
        return sorted(accounts, key=lambda account: account.username)

    def _account(self, row: Record, unread_databases: Sequence[str]) -> FoundAccount:
        rights = self._rights[row["oid"]]
        for column, word in _WORDS:
            if row[column]:
                rights.add(word)
        return FoundAccount(
            username=row["name"],
            is_superuser=row["rolsuper"],
            can_login=row["rolcanlogin"],
            password_expires_at=row["valid_until"],
            connection_limit=row["rolconnlimit"] if row["rolconnlimit"] >= 0 else None,
            attributes=_attributes(row, self._limits.get(row["oid"], {}), unread_databases),
            permissions=rights.found(),
        )


def _attributes(
    row: Record, limits: Mapping[str, Sequence[str]], unread_databases: Sequence[str]
) -> Mapping[str, JsonValue]:
    attributes: dict[str, JsonValue] = {"inherit": row["rolinherit"]}
    if row["name"].startswith("pg_"):
        attributes["predefined"] = True
    if row["config"]:
        attributes["config"] = dict(sorted(_setting(each) for each in row["config"]))
    if limits:
        attributes["membership_limits"] = dict(sorted(limits.items()))
    if unread_databases:
        attributes["unread_databases"] = sorted(unread_databases)
    return attributes


def _setting(assignment: str) -> tuple[str, str]:
    """Of `name=value`. A name with a dot is an extension's or an application's own, and some keep secrets there."""
    name, _, value = assignment.partition("=")
    return name, "***" if "." in name else value


def _object_name(database: str, row: Record) -> str:
    schema, thing, column = row["schema_name"], row["object_name"], row["column_name"]
    parts = [_quoted(database), _quoted(schema)]
    if thing is not None:
        # Arguments may hold dots and quotes, as the server quotes them.
        parts.append(thing if row["is_function"] else _quoted(thing))
    if column is not None:
        parts.append(_quoted(column))
    return ".".join(parts)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if "." in name or '"' in name else name
