"""What Oracle Database (12.1 and later) is asked, with the shape of each answer.

The views and their columns are those of https://docs.oracle.com/en/database/oracle/oracle-database/19/refrn/ (a page is
named after its view, such as DBA_USERS.html); the 23ai ones of .../oracle-database/23/refrn/. A DBA_ view tells of the
container that is connected to.
"""

from datetime import datetime
from typing import NamedTuple

from app.syncs.adapters.question import Question


class User(NamedTuple):
    username: str
    account_status: str
    lock_date: datetime | None
    expiry_date: datetime | None
    profile: str
    default_tablespace: str | None
    temporary_tablespace: str | None
    authentication_type: str | None
    created: datetime
    common: str | None
    oracle_maintained: str | None


class Role(NamedTuple):
    role: str
    authentication_type: str | None
    common: str | None


class SessionLimit(NamedTuple):
    """`limit` is a number, UNLIMITED, or DEFAULT for what the profile DEFAULT says."""

    profile: str
    limit: str


class RoleGrant(NamedTuple):
    grantee: str
    role: str
    admin_option: str


class SystemPrivilege(NamedTuple):
    grantee: str
    privilege: str
    admin_option: str


class SchemaPrivilege(NamedTuple):
    grantee: str
    schema: str
    privilege: str
    admin_option: str


class ObjectPrivilege(NamedTuple):
    grantee: str
    owner: str
    object: str
    column: str | None
    privilege: str
    grantable: str


class PasswordFileUser(NamedTuple):
    username: str
    sysdba: str
    sysoper: str
    sysasm: str
    sysbackup: str
    sysdg: str
    syskm: str


class Container(NamedTuple):
    name: str
    size_bytes: int | None


class Schema(NamedTuple):
    name: str
    size_bytes: int
    oracle_maintained: str | None


class TableUse(NamedTuple):
    """`container` is null in a DBA_ view."""

    container: str | None
    owner: str
    table: str
    data_bytes: int
    index_bytes: int
    rows: int | None


class Parameter(NamedTuple):
    name: str
    value: str | None


class Place(NamedTuple):
    unique_name: str
    role: str
    open_mode: str | None
    protection_mode: str | None
    instance_name: str
    instance_number: int


class Lag(NamedTuple):
    """An interval such as `+00 00:01:05`; null while it is not known."""

    value: str | None


TRIVIAL = Question("SELECT 1 FROM dual", int)

# https://docs.oracle.com/en/database/oracle/oracle-database/19/sqlrf/SYS_CONTEXT.html
CONTAINER_NAME = Question("SELECT SYS_CONTEXT('USERENV', 'CON_NAME') FROM dual", str)

# https://docs.oracle.com/en/database/oracle/oracle-database/19/sqlrf/SET-TRANSACTION.html
READ_ONLY = Question("SET TRANSACTION READ ONLY", lambda: None)

# DBA_USERS; never its PASSWORD. LAST_LOGIN is left out, which would be a change at every sign-in.
USERS = Question(
    """
    SELECT username, account_status, lock_date, expiry_date, profile, default_tablespace, temporary_tablespace,
        authentication_type, created, common, oracle_maintained
    FROM dba_users
    """,
    User,
)

# DBA_ROLES: those that somebody made.
ROLES = Question("SELECT role, authentication_type, common FROM dba_roles WHERE oracle_maintained = 'N'", Role)

# DBA_PROFILES
SESSION_LIMITS = Question(
    "SELECT profile, limit FROM dba_profiles WHERE resource_name = 'SESSIONS_PER_USER'", SessionLimit
)

# DBA_ROLE_PRIVS: of every grantee, because the way to a role may lead through Oracle's own.
ROLE_GRANTS = Question("SELECT grantee, granted_role, admin_option FROM dba_role_privs", RoleGrant)

_grantees = "(SELECT username FROM dba_users UNION ALL SELECT role FROM dba_roles WHERE oracle_maintained = 'N')"

# DBA_SYS_PRIVS
SYSTEM_PRIVILEGES = Question(
    f"SELECT grantee, privilege, admin_option FROM dba_sys_privs WHERE grantee IN {_grantees}",  # noqa: S608
    SystemPrivilege,
)

# DBA_SCHEMA_PRIVS, of 23ai and later
SCHEMA_PRIVILEGES = Question(
    f"SELECT grantee, schema, privilege, admin_option FROM dba_schema_privs WHERE grantee IN {_grantees}",  # noqa: S608
    SchemaPrivilege,
)

# DBA_TAB_PRIVS (of any kind of object) and DBA_COL_PRIVS; what Oracle's own accounts hold is hers, and is much.
OBJECT_PRIVILEGES = Question(
    f"""
    SELECT grantee, owner, table_name, NULL, privilege, grantable FROM dba_tab_privs
    WHERE grantee IN {_grantees}
        AND grantee NOT IN (SELECT username FROM dba_users WHERE oracle_maintained = 'Y')
    UNION ALL
    SELECT grantee, owner, table_name, column_name, privilege, grantable FROM dba_col_privs
    WHERE grantee IN {_grantees}
        AND grantee NOT IN (SELECT username FROM dba_users WHERE oracle_maintained = 'Y')
    """,  # noqa: S608
    ObjectPrivilege,
)

# V$PWFILE_USERS
PASSWORD_FILE_USERS = Question(
    "SELECT username, sysdba, sysoper, sysasm, sysbackup, sysdg, syskm FROM v$pwfile_users", PasswordFileUser
)

# V$CONTAINERS; TOTAL_SIZE counts data files and temporary files, and is 0 while a container is not open.
CONTAINERS = Question("SELECT name, NULLIF(total_size, 0) FROM v$containers ORDER BY con_id", Container)

# DBA_SEGMENTS and DBA_USERS
SCHEMAS = Question(
    """
    SELECT s.owner, SUM(s.bytes), MAX(u.oracle_maintained)
    FROM dba_segments s LEFT JOIN dba_users u ON u.username = s.owner GROUP BY s.owner ORDER BY s.owner
    """,
    Schema,
)

# DBA_SEGMENTS with DBA_INDEXES, DBA_LOBS and DBA_TABLES, or the CDB_ views of the same columns and CON_ID. Segments of
# partitions are added up; the recycle bin's are no tables any more.
_LARGEST_TABLES = """
    WITH segments AS (
        SELECT {con_id} AS con_id, owner, segment_name, segment_type, SUM(bytes) AS bytes
        FROM {views}_segments WHERE segment_name NOT LIKE 'BIN$%'
        GROUP BY {grouped}owner, segment_name, segment_type
    ), uses AS (
        SELECT con_id, owner, segment_name AS table_name, bytes AS data_bytes, 0 AS index_bytes
        FROM segments WHERE segment_type IN ('TABLE', 'TABLE PARTITION', 'TABLE SUBPARTITION', 'NESTED TABLE')
        UNION ALL
        SELECT s.con_id, l.owner, l.table_name, s.bytes, 0
        FROM segments s JOIN {views}_lobs l ON l.owner = s.owner AND l.segment_name = s.segment_name{same_lob}
        WHERE s.segment_type IN ('LOBSEGMENT', 'LOB PARTITION', 'LOB SUBPARTITION')
        UNION ALL
        SELECT s.con_id, i.table_owner, i.table_name, 0, s.bytes
        FROM segments s JOIN {views}_indexes i ON i.owner = s.owner AND i.index_name = s.segment_name{same_index}
        WHERE s.segment_type IN ('INDEX', 'INDEX PARTITION', 'INDEX SUBPARTITION', 'LOBINDEX')
    ), tables AS (
        SELECT con_id, owner, table_name, SUM(data_bytes) AS data_bytes, SUM(index_bytes) AS index_bytes,
            ROW_NUMBER() OVER (
                PARTITION BY {partition} ORDER BY SUM(data_bytes + index_bytes) DESC, owner, table_name
            ) AS place
        FROM uses GROUP BY con_id, owner, table_name
    )
    SELECT {container}, t.owner, t.table_name, t.data_bytes, t.index_bytes, n.num_rows
    FROM tables t {containers}
        LEFT JOIN {views}_tables n ON n.owner = t.owner AND n.table_name = t.table_name{same_table}
    WHERE t.place <= {limit}
"""

_in_schemas = {
    "views": "dba",
    "con_id": "0",
    "grouped": "",
    "same_lob": "",
    "same_index": "",
    "same_table": "",
    "partition": "owner",
    "container": "NULL",
    "containers": "",
}
_in_containers = {
    "views": "cdb",
    "con_id": "con_id",
    "grouped": "con_id, ",
    "same_lob": " AND l.con_id = s.con_id",
    "same_index": " AND i.con_id = s.con_id",
    "same_table": " AND n.con_id = t.con_id",
    "partition": "con_id",
    "container": "c.name",
    "containers": "JOIN v$containers c ON c.con_id = t.con_id",
}


def largest_tables(limit: int, *, by_container: bool) -> Question[TableUse]:
    """Of each schema, or of each container."""
    parts = _in_containers if by_container else _in_schemas
    return Question(_LARGEST_TABLES.format(limit=int(limit), **parts), TableUse)


# Those at their defaults are read too where the default tells of security, memory or replication.
_TELLING_PARAMETERS = (
    "archive_lag_target", "audit_trail", "cluster_database", "compatible", "cpu_count", "db_block_size", "db_name",
    "db_unique_name", "enable_pluggable_database", "log_archive_config", "memory_target", "open_cursors",
    "optimizer_features_enable", "optimizer_mode", "parallel_max_servers", "pga_aggregate_limit",
    "pga_aggregate_target", "processes", "remote_login_passwordfile", "remote_os_authent", "sec_case_sensitive_logon",
    "sec_max_failed_login_attempts", "sessions", "sga_max_size", "sga_target", "sql92_security", "undo_retention",
)  # fmt: skip

# V$PARAMETER: as they hold for this session, which sets none.
PARAMETERS = Question(
    "SELECT name, display_value FROM v$parameter WHERE isdefault = 'FALSE' OR name IN ("  # noqa: S608
    + ", ".join(f"'{name}'" for name in _TELLING_PARAMETERS)
    + ")",
    Parameter,
)

# NLS_DATABASE_PARAMETERS
CHARACTER_SET = Question("SELECT value FROM nls_database_parameters WHERE parameter = 'NLS_CHARACTERSET'", str)

# V$DATABASE and V$INSTANCE, of one row each
PLACE = Question(
    """
    SELECT d.db_unique_name, d.database_role, d.open_mode, d.protection_mode, i.instance_name, i.instance_number
    FROM v$database d CROSS JOIN v$instance i
    """,
    Place,
)

# V$DATAGUARD_STATS, which has rows on a standby only
APPLY_LAG = Question("SELECT value FROM v$dataguard_stats WHERE name = 'apply lag'", Lag)
