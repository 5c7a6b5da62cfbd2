"""What the code declares of permissions and built-in roles is what a migrated database holds."""

from collections import defaultdict

from sqlalchemy import select

from app.access.permissions import ADMIN, BUILT_IN_ROLES, DESCRIPTIONS, Permission
from app.database import Database
from app.models.role import PermissionRow, Role, RolePermission


class TestDeclarations:
    def test_every_permission_is_described(self) -> None:
        assert DESCRIPTIONS.keys() == set(Permission)

    def test_every_name_is_resource_and_action(self) -> None:
        assert [each for each in Permission if len(each.value.split(":")) != 2] == []

    def test_admin_may_do_everything(self) -> None:
        assert BUILT_IN_ROLES[ADMIN] == set(Permission)


class TestMigrations:
    async def test_write_the_permissions(self, database: Database) -> None:
        async with database.readers() as session:
            rows = await session.execute(select(PermissionRow.name, PermissionRow.description))
            assert dict(rows.all()) == {each.value: DESCRIPTIONS[each] for each in Permission}

    async def test_write_the_built_in_roles(self, database: Database) -> None:
        held: dict[str, set[str]] = defaultdict(set)
        statement = select(Role.name, RolePermission.permission).outerjoin(
            RolePermission, RolePermission.role_id == Role.id
        )
        async with database.readers() as session:
            for role, permission in await session.execute(statement.where(Role.is_builtin)):
                held[role].add(permission)
            assert await session.scalar(select(Role.id).where(Role.is_builtin.is_(False))) is None
        assert held == BUILT_IN_ROLES
