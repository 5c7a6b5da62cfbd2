"""Makes accounts of what MongoDB says: users, and the roles that somebody made and that users hold."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from app.inventory.records import FoundAccount, JsonValue
from app.syncs.adapters.rights import Rights, reached_roles

Document = Mapping[str, Any]

# https://www.mongodb.com/docs/manual/reference/built-in-roles/: their privileges are the server's business, and many.
_BUILT_IN = frozenset({
    "__queryableBackup", "__system", "backup", "clusterAdmin", "clusterManager", "clusterMonitor", "dbAdmin",
    "dbAdminAnyDatabase", "dbOwner", "directShardOperations", "enableSharding", "hostManager", "read",
    "readAnyDatabase", "readWrite", "readWriteAnyDatabase", "restore", "root", "searchCoordinator", "userAdmin",
    "userAdminAnyDatabase",
})  # fmt: skip
_SUPERUSERS = frozenset({"admin.root", "admin.__system"})
_EVERY_ACTION = "anyAction"


def made_roles(users: Sequence[Document]) -> list[dict[str, str]]:
    """Those that users hold and that are not the server's own, as rolesInfo wants them, sorted."""
    held = {(role["db"], role["role"]) for user in users for role in user.get("roles", ())}
    return [{"role": role, "db": database} for database, role in sorted(held) if role not in _BUILT_IN]


def accounts_in(users: Sequence[Document], roles: Sequence[Document]) -> list[FoundAccount]:
    """A user is `name@database`, after the database that it signs in at; a role is `database.role`."""
    rights: defaultdict[str, Rights] = defaultdict(Rights)
    for role in roles:
        for privilege in role.get("privileges", ()):
            _add(rights[_role_name(role)], privilege)
        _add_roles(rights[_role_name(role)], role.get("roles", ()))
    for user in users:
        _add_roles(rights[_user_name(user)], user.get("roles", ()))
    roles_of = {name: each.roles for name, each in rights.items()}
    superusers = _SUPERUSERS | {name for name, each in rights.items() if f"{_EVERY_ACTION} on *" in each.everywhere}
    return [_user(user, rights[_user_name(user)], roles_of, superusers) for user in users] + [
        _role(role, rights[_role_name(role)]) for role in roles if not role.get("isBuiltin")
    ]


def _user(
    user: Document, rights: Rights, roles_of: Mapping[str, Collection[str]], superusers: Collection[str]
) -> FoundAccount:
    return FoundAccount(
        username=_user_name(user),
        is_superuser=not reached_roles(rights.roles, roles_of).isdisjoint(superusers),
        authentication_method=_method(user),
        attributes={"database": str(user["db"])},
        permissions=rights.found(),
    )


def _role(role: Document, rights: Rights) -> FoundAccount:
    attributes: Mapping[str, JsonValue] = {"type": "role", "database": str(role["db"])}
    return FoundAccount(username=_role_name(role), can_login=False, attributes=attributes, permissions=rights.found())


def _method(user: Document) -> str | None:
    """$external's sign in with a certificate, LDAP or Kerberos; others by SCRAM."""
    mechanisms = ", ".join(sorted(user.get("mechanisms", ())))
    return mechanisms[:64].lower() or ("external" if user["db"] == "$external" else None)


def _add_roles(rights: Rights, roles: Iterable[Document]) -> None:
    for role in roles:
        rights.add_role(_role_name(role))


def _add(rights: Rights, privilege: Document) -> None:
    """https://www.mongodb.com/docs/manual/reference/resource-document/: the cluster, everything, a database (a name
    without a collection), a collection, or a collection of that name in every database."""
    resource = privilege["resource"]
    for action in privilege["actions"]:
        if resource.get("cluster"):
            rights.add(action)
        elif resource.get("anyResource") or not (resource.get("db") or resource.get("collection")):
            rights.add(f"{action} on *" if resource.get("anyResource") else f"{action} on every database")
        elif not resource.get("collection"):
            rights.add_on_database(resource["db"], action)
        else:
            rights.add_on_object(f"{resource.get('db') or '*'}.{resource['collection']}", action)


def _user_name(user: Document) -> str:
    return f"{user['user']}@{user['db']}"


def _role_name(role: Document) -> str:
    return f"{role['db']}.{role['role']}"
