"""What is asked of PostgreSQL's catalogue, for versions 12 to 18: https://www.postgresql.org/docs/current/catalogs.html

Every value is cast to a type that asyncpg knows without asking. A column that only some versions have is read from the
row's JSON, where it is null in the others. Names need no schema: `search_path` is `pg_catalog`.
"""

# Of pg_roles, which shows no password. Times that Python cannot hold, and infinity, are no limit.
ROLES = """
SELECT r.oid, r.rolname::text AS name, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin,
    r.rolreplication, r.rolbypassrls, r.rolconnlimit, coalesce(r.rolconfig, '{}')::text[] AS config,
    CASE WHEN r.rolvaliduntil BETWEEN '0002-01-01' AND '9998-12-31' THEN r.rolvaliduntil END AS valid_until
FROM pg_roles r
"""

# From 16 on, a role can be granted by several, each with options of its own; what one of them allows is allowed.
MEMBERSHIPS = """
SELECT m.member, m.roleid, bool_or(m.admin_option) AS is_admin,
    bool_or(coalesce((to_jsonb(m) ->> 'inherit_option')::bool, true)) AS inherits,
    bool_or(coalesce((to_jsonb(m) ->> 'set_option')::bool, true)) AS can_set
FROM pg_auth_members m
GROUP BY m.member, m.roleid
"""

# A database without an ACL has the default one, which its owner and PUBLIC (0) are in.
DATABASE_GRANTS = """
SELECT d.datname::text AS name, a.grantee, array_agg(a.privilege_type)::text[] AS privileges,
    coalesce(array_agg(a.privilege_type) FILTER (WHERE a.is_grantable), '{}')::text[] AS grantable
FROM pg_database d
CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
GROUP BY d.datname, a.grantee
"""

TABLESPACE_GRANTS = """
SELECT 'TABLESPACE' AS kind, t.spcname::text AS name, a.grantee, array_agg(a.privilege_type)::text[] AS privileges,
    coalesce(array_agg(a.privilege_type) FILTER (WHERE a.is_grantable), '{}')::text[] AS grantable
FROM pg_tablespace t
CROSS JOIN LATERAL aclexplode(t.spcacl) a
WHERE a.grantee <> t.spcowner
GROUP BY t.spcname, a.grantee
"""

# From 15 on. The bootstrap superuser (10) owns them all.
PARAMETER_GRANTS = """
SELECT 'PARAMETER' AS kind, p.parname::text AS name, a.grantee, array_agg(a.privilege_type)::text[] AS privileges,
    coalesce(array_agg(a.privilege_type) FILTER (WHERE a.is_grantable), '{}')::text[] AS grantable
FROM pg_parameter_acl p
CROSS JOIN LATERAL aclexplode(p.paracl) a
WHERE a.grantee <> 10
GROUP BY p.parname, a.grantee
"""

# Of one database: whatever has an ACL. What an owner has by owning is left out: it stands in an ACL only once
# somebody else was granted something. In the system's schemas, so is what initdb granted; of the information schema it
# keeps no record, but everybody may read that.
OBJECT_GRANTS = """
WITH things AS (
    SELECT 'pg_namespace'::regclass AS class, n.oid, 0 AS part, n.nspname AS schema_name, NULL AS object_name,
        NULL::name AS column_name, n.nspowner AS owner, n.nspacl AS acl
    FROM pg_namespace n WHERE n.nspacl IS NOT NULL
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, 0, n.nspname, c.relname::text, NULL, c.relowner, c.relacl
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relacl IS NOT NULL
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, a.attnum, n.nspname, c.relname::text, a.attname, c.relowner, a.attacl
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
    UNION ALL
    SELECT 'pg_proc'::regclass, p.oid, 0, n.nspname,
        p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', NULL, p.proowner, p.proacl
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.proacl IS NOT NULL
)
SELECT t.class = 'pg_proc'::regclass AS is_function, t.schema_name::text, t.object_name::text, t.column_name::text,
    a.grantee, array_agg(a.privilege_type)::text[] AS privileges,
    coalesce(array_agg(a.privilege_type) FILTER (WHERE a.is_grantable), '{}')::text[] AS grantable
FROM things t
LEFT JOIN pg_init_privs i ON i.classoid = t.class AND i.objoid = t.oid AND i.objsubid = t.part AND i.privtype = 'i'
    AND t.schema_name IN ('pg_catalog', 'information_schema')
CROSS JOIN LATERAL unnest(t.acl) AS item
CROSS JOIN LATERAL aclexplode(ARRAY[item]) AS a
WHERE a.grantee <> t.owner AND (i.initprivs IS NULL OR NOT item = ANY (i.initprivs))
    AND NOT (t.schema_name = 'information_schema' AND a.grantee = 0 AND a.privilege_type IN ('SELECT', 'USAGE'))
    AND t.schema_name NOT LIKE 'pg\\_temp\\_%' AND t.schema_name NOT LIKE 'pg\\_toast%'
GROUP BY t.class, t.oid, t.part, t.schema_name, t.object_name, t.column_name, a.grantee
"""

# Which databases to connect to. Not templates: `CREATE DATABASE` fails while somebody is connected to its template.
CONNECTABLE = """
SELECT d.datname::text AS name, has_database_privilege(d.oid, 'CONNECT') AS is_allowed
FROM pg_database d
WHERE d.datallowconn AND NOT d.datistemplate AND d.datconnlimit <> -2
ORDER BY d.datname <> current_database(), d.datname
"""

# ICU's locale is in `daticulocale` (15, 16) or `datlocale` (from 17 on).
DATABASES = """
SELECT d.datname::text AS name, pg_get_userbyid(d.datdba)::text AS owner,
    pg_encoding_to_char(d.encoding)::text AS encoding,
    coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', d.datcollate::text) AS collation,
    d.datname IN ('postgres', 'template0', 'template1') AS is_system
FROM pg_database d
ORDER BY d.datname
"""

# Only where it is allowed: asking for one that is not would fail the question as a whole.
DATABASE_SIZES = """
SELECT d.datname::text AS name, pg_database_size(d.oid) AS size_bytes
FROM pg_database d
WHERE has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
ORDER BY d.datname
"""

# The files of at most $2 tables are looked at, the largest by the planner's page counts or, where a table was never
# analyzed, by the rows counted since: to look at the files of 10,000 takes 2.5 s and keeps them all in the backend's
# cache. A size is asked for under a lock, so that of a table which is locked exclusively (or has an index that is) is
# estimated.
TABLE_SIZES = """
WITH candidates AS (
    SELECT c.oid, n.nspname, c.relname, c.reltuples, coalesce(i.pages, 0) AS index_pages,
        greatest(c.relpages, pg_stat_get_live_tuples(c.oid) / 100) + coalesce(t.relpages, 0) AS data_pages
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    LEFT JOIN (
        SELECT x.indrelid, sum(xc.relpages) AS pages
        FROM pg_index x JOIN pg_class xc ON xc.oid = x.indexrelid GROUP BY x.indrelid
    ) i ON i.indrelid = c.oid
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
        AND (n.nspname NOT IN ('pg_catalog', 'information_schema') OR (c.relname = 'pg_largeobject' AND c.relpages > 0))
    ORDER BY coalesce(i.pages, 0) + greatest(c.relpages, pg_stat_get_live_tuples(c.oid) / 100)
        + coalesce(t.relpages, 0) DESC, c.oid
    LIMIT $2
), locked AS (
    SELECT DISTINCT coalesce(x.indrelid, l.relation) AS oid
    FROM pg_locks l LEFT JOIN pg_index x ON x.indexrelid = l.relation
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
), measured AS (
    SELECT c.nspname, c.relname, c.reltuples,
        CASE WHEN l.oid IS NULL THEN pg_table_size(c.oid)
            ELSE c.data_pages * current_setting('block_size')::int8 END AS data_bytes,
        CASE WHEN l.oid IS NULL THEN pg_indexes_size(c.oid)
            ELSE c.index_pages * current_setting('block_size')::int8 END AS index_bytes
    FROM candidates c LEFT JOIN locked l ON l.oid = c.oid
)
SELECT nspname::text AS schema_name, relname::text AS table_name, data_bytes::int8, index_bytes::int8,
    (data_bytes + index_bytes)::int8 AS size_bytes,
    CASE WHEN reltuples >= 0 THEN reltuples::int8 END AS row_estimate
FROM measured
WHERE data_bytes + index_bytes IS NOT NULL
ORDER BY size_bytes DESC, schema_name, table_name
LIMIT $1
"""

# As SHOW writes them, with their units.
SETTINGS = """
SELECT s.name, current_setting(s.name) AS value FROM pg_settings s WHERE s.name = ANY ($1::text[]) ORDER BY s.name
"""

# A standby that has replayed all it received is not behind, however long ago that was.
RECOVERY = """
SELECT pg_is_in_recovery() AS is_standby,
    CASE WHEN NOT pg_is_in_recovery() THEN NULL
        WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp())::int8 END AS lag_seconds,
    (SELECT count(*) FROM pg_stat_replication r WHERE r.state IS DISTINCT FROM 'backup') AS replica_count
"""

RECEIVER = """
SELECT w.status, w.sender_host, w.sender_port, w.received_tli AS timeline FROM pg_stat_wal_receiver w
"""

# Some managed servers keep these functions to themselves.
CONTROL = """
SELECT (SELECT s.system_identifier::text FROM pg_control_system() s) AS system_identifier,
    (SELECT c.timeline_id FROM pg_control_checkpoint() c) AS timeline
"""
