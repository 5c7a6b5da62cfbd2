"""What SQL Server (2012 and later, and Azure SQL Managed Instance) is asked, with the shape of each answer.

Columns and rights are from the reference: the pages at the queries, below https://learn.microsoft.com/en-us/sql/. Names
of databases are put in quoted, as three-part names, so that the session never changes its database.
"""

from datetime import datetime
from typing import NamedTuple

from app.syncs.adapters.question import Question


class Version(NamedTuple):
    version: str


class Ability(NamedTuple):
    """1 or 0; null for a permission that this version does not know."""

    views_definitions: int | None
    views_state: int | None
    engine_edition: int
    has_availability_groups: int | None


class Login(NamedTuple):
    principal_id: int
    sid: bytes | None
    name: str
    type: str
    type_desc: str
    is_disabled: bool
    default_database: str | None
    default_language: str | None
    is_policy_checked: bool | None
    is_expiration_checked: bool | None
    is_locked: int | None
    is_expired: int | None
    must_change: int | None
    password_set: datetime | None
    created: datetime


class Membership(NamedTuple):
    member_id: int
    role: str


class ServerPermission(NamedTuple):
    """`state` is G (granted), W (with the grant option) or D (denied); `securable` is null for the server itself."""

    grantee_id: int
    class_desc: str
    permission: str
    state: str
    securable: str | None


class Database(NamedTuple):
    """`has_access` is 0 too while the database cannot be opened."""

    database_id: int
    name: str
    owner: str | None
    collation: str | None
    code_page: int | None
    is_distributor: bool
    has_access: int | None

    @property
    def is_system(self) -> bool:
        # master, tempdb, model and msdb.
        return self.database_id <= 4 or self.is_distributor


class DatabasePrincipal(NamedTuple):
    principal_id: int
    name: str
    sid: bytes | None
    type: str
    type_desc: str
    authentication: str | None
    is_fixed_role: bool


class DatabasePermission(NamedTuple):
    """`schema`, `object` and `column` name what the class is about, as far as it has such names."""

    grantee_id: int
    class_desc: str
    major_id: int
    permission: str
    state: str
    schema: str | None
    object: str | None
    column: str | None


class FileSize(NamedTuple):
    name: str
    size_bytes: int


class TableUse(NamedTuple):
    schema: str
    table: str
    size_bytes: int
    data_bytes: int
    index_bytes: int
    rows: int


class Setting(NamedTuple):
    name: str
    value: str | None


class Replica(NamedTuple):
    group: str
    replica_server: str
    role: str | None
    availability_mode: str | None
    failover_mode: str | None
    health: str | None
    listener: str | None


TRIVIAL = Question("SELECT 1", int)

# t-sql/functions/serverproperty-transact-sql
VERSION = Question("SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(100))", Version)

# t-sql/functions/has-perms-by-name-transact-sql. Without VIEW ANY DEFINITION the catalogue hides instead of refusing
# (relational-databases/security/metadata-visibility-configuration): accounts would seem removed.
ABILITY = Question(
    """
    SELECT HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW ANY DEFINITION'), HAS_PERMS_BY_NAME(NULL, NULL, 'VIEW SERVER STATE'),
        CAST(SERVERPROPERTY('EngineEdition') AS int), CAST(SERVERPROPERTY('IsHadrEnabled') AS int)
    """,
    Ability,
)

# relational-databases/system-catalog-views/sys-server-principals-transact-sql and sys-sql-logins-transact-sql,
# t-sql/functions/loginproperty-transact-sql. Logins, and the server roles that users made; never password_hash.
LOGINS = Question(
    """
    SELECT p.principal_id, p.sid, p.name, p.type, p.type_desc, p.is_disabled, p.default_database_name,
        p.default_language_name, l.is_policy_checked, l.is_expiration_checked,
        CAST(LOGINPROPERTY(l.name, 'IsLocked') AS int), CAST(LOGINPROPERTY(l.name, 'IsExpired') AS int),
        CAST(LOGINPROPERTY(l.name, 'IsMustChange') AS int),
        CAST(LOGINPROPERTY(l.name, 'PasswordLastSetTime') AS datetime), p.create_date
    FROM sys.server_principals p LEFT JOIN sys.sql_logins l ON l.principal_id = p.principal_id
    WHERE p.type IN ('S', 'U', 'G', 'E', 'X', 'C', 'K')
        OR (p.type = 'R' AND p.is_fixed_role = 0 AND p.name <> 'public')
    """,
    Login,
)

# relational-databases/system-catalog-views/sys-server-role-members-transact-sql
MEMBERSHIPS = Question(
    """
    SELECT m.member_principal_id, r.name
    FROM sys.server_role_members m JOIN sys.server_principals r ON r.principal_id = m.role_principal_id
    """,
    Membership,
)

# relational-databases/system-catalog-views/sys-server-permissions-transact-sql
SERVER_PERMISSIONS = Question(
    """
    SELECT p.grantee_principal_id, p.class_desc, p.permission_name, p.state,
        CASE p.class WHEN 100 THEN NULL WHEN 101 THEN t.name WHEN 105 THEN e.name
            ELSE CAST(p.major_id AS nvarchar(128)) END
    FROM sys.server_permissions p
        LEFT JOIN sys.server_principals t ON p.class = 101 AND t.principal_id = p.major_id
        LEFT JOIN sys.endpoints e ON p.class = 105 AND e.endpoint_id = p.major_id
    WHERE p.state IN ('G', 'W', 'D')
    """,
    ServerPermission,
)

# relational-databases/system-catalog-views/sys-databases-transact-sql, t-sql/functions/has-dbaccess-transact-sql,
# t-sql/functions/collation-functions-collationproperty-transact-sql
DATABASES = Question(
    """
    SELECT d.database_id, d.name, SUSER_SNAME(d.owner_sid), d.collation_name,
        CAST(COLLATIONPROPERTY(CAST(d.collation_name AS nvarchar(128)), 'CodePage') AS int), d.is_distributor,
        HAS_DBACCESS(d.name)
    FROM sys.databases d ORDER BY d.database_id
    """,
    Database,
)

# relational-databases/system-catalog-views/sys-database-principals-transact-sql
DATABASE_PRINCIPALS = Question(
    """
    SELECT principal_id, name, sid, type, type_desc, authentication_type_desc, is_fixed_role
    FROM {database}.sys.database_principals
    WHERE type IN ('S', 'U', 'G', 'E', 'X', 'C', 'K', 'R')
    """,
    DatabasePrincipal,
)

# relational-databases/system-catalog-views/sys-database-role-members-transact-sql
DATABASE_MEMBERSHIPS = Question(
    """
    SELECT m.member_principal_id, r.name
    FROM {database}.sys.database_role_members m
        JOIN {database}.sys.database_principals r ON r.principal_id = m.role_principal_id
    """,
    Membership,
)

# relational-databases/system-catalog-views/sys-database-permissions-transact-sql. Principal 0 is public, which
# everybody is; what it may do is nobody's own right.
DATABASE_PERMISSIONS = Question(
    """
    SELECT p.grantee_principal_id, p.class_desc, p.major_id, p.permission_name, p.state,
        COALESCE(os.name, s.name), COALESCE(o.name, t.name), c.name
    FROM {database}.sys.database_permissions p
        LEFT JOIN {database}.sys.all_objects o ON p.class = 1 AND o.object_id = p.major_id
        LEFT JOIN {database}.sys.schemas os ON os.schema_id = o.schema_id
        LEFT JOIN {database}.sys.all_columns c
            ON p.class = 1 AND p.minor_id <> 0 AND c.object_id = p.major_id AND c.column_id = p.minor_id
        LEFT JOIN {database}.sys.schemas s ON p.class = 3 AND s.schema_id = p.major_id
        LEFT JOIN {database}.sys.database_principals t ON p.class = 4 AND t.principal_id = p.major_id
    WHERE p.state IN ('G', 'W', 'D') AND p.grantee_principal_id <> 0
    """,
    DatabasePermission,
)

# relational-databases/system-catalog-views/sys-master-files-transact-sql: `size` counts pages of 8 KB, and of tempdb
# tells what it starts with, so that tempdb is asked itself (sys-database-files-transact-sql).
FILE_SIZES = Question(
    """
    SELECT d.name, SUM(CAST(f.size AS bigint)) * 8192
    FROM sys.master_files f JOIN sys.databases d ON d.database_id = f.database_id
    WHERE f.database_id <> 2 GROUP BY d.name
    UNION ALL SELECT 'tempdb', SUM(CAST(size AS bigint)) * 8192 FROM tempdb.sys.database_files
    """,
    FileSize,
)

# relational-databases/system-dynamic-management-views/sys-dm-db-partition-stats-transact-sql; what counts as data is
# what sp_spaceused counts (relational-databases/system-stored-procedures/sp-spaceused-transact-sql).
LARGEST_TABLES = Question(
    """
    SELECT TOP ({limit}) s.name, t.name, u.reserved * 8192, u.data * 8192, (u.used - u.data) * 8192, u.row_count
    FROM (
        SELECT object_id, SUM(reserved_page_count) AS reserved, SUM(used_page_count) AS used,
            SUM(CASE WHEN index_id < 2 THEN
                in_row_data_page_count + lob_used_page_count + row_overflow_used_page_count ELSE 0 END) AS data,
            SUM(CASE WHEN index_id < 2 THEN row_count ELSE 0 END) AS row_count
        FROM {database}.sys.dm_db_partition_stats GROUP BY object_id
    ) u
        JOIN {database}.sys.tables t ON t.object_id = u.object_id
        JOIN {database}.sys.schemas s ON s.schema_id = t.schema_id
    WHERE t.is_ms_shipped = 0
    ORDER BY u.reserved DESC, s.name, t.name
    """,
    TableUse,
)

# relational-databases/system-catalog-views/sys-configurations-transact-sql: about a hundred, none of them a secret.
CONFIGURATIONS = Question(
    "SELECT name, CAST(value_in_use AS nvarchar(200)) FROM sys.configurations ORDER BY name", Setting
)

_PROPERTIES = (
    "BuildClrVersion", "Collation", "Edition", "FilestreamEffectiveLevel", "HadrManagerStatus", "InstanceName",
    "IsClustered", "IsFullTextInstalled", "IsHadrEnabled", "IsIntegratedSecurityOnly", "MachineName", "ProductLevel",
    "ProductUpdateLevel", "ProductVersion", "ServerName",
)  # fmt: skip

# t-sql/functions/serverproperty-transact-sql; the names are constants of ours.
PROPERTIES = Question(
    " UNION ALL ".join(f"SELECT '{name}', CAST(SERVERPROPERTY('{name}') AS nvarchar(200))" for name in _PROPERTIES),
    Setting,
)

# relational-databases/system-catalog-views/sys-availability-groups-transact-sql, sys-availability-replicas-transact-sql
# and sys-availability-group-listeners-transact-sql; relational-databases/system-dynamic-management-views/
# sys-dm-hadr-availability-replica-states-transact-sql
REPLICAS = Question(
    """
    SELECT g.name, r.replica_server_name, s.role_desc, r.availability_mode_desc, r.failover_mode_desc,
        s.synchronization_health_desc,
        (SELECT MIN(l.dns_name) FROM sys.availability_group_listeners l WHERE l.group_id = g.group_id)
    FROM sys.dm_hadr_availability_replica_states s
        JOIN sys.availability_replicas r ON r.replica_id = s.replica_id
        JOIN sys.availability_groups g ON g.group_id = s.group_id
    WHERE s.is_local = 1 ORDER BY g.name
    """,
    Replica,
)


def quoted(name: str) -> str:
    """As a delimited identifier (relational-databases/databases/database-identifiers)."""
    return "[" + name.replace("]", "]]") + "]"
