"""A MySQL or MariaDB server's place in replication, in a replication group, or in a Galera cluster.

https://dev.mysql.com/doc/refman/8.4/en/show-replica-status.html,
https://mariadb.com/kb/en/show-replica-status/,
https://dev.mysql.com/doc/refman/8.4/en/performance-schema-replication-group-members-table.html,
https://mariadb.com/kb/en/galera-cluster-status-variables/
"""

from collections.abc import Mapping, Sequence

from app.inventory.records import MysqlMember
from app.syncs.adapters.mysql_connection import MysqlConnection
from app.syncs.adapters.mysql_release import Release
from app.syncs.adapters.mysql_values import count, positive

Named = Mapping[str, str | None]

_VARIABLES = (
    "server_uuid", "server_id", "read_only", "super_read_only", "gtid_executed", "gtid_current_pos",
    "group_replication_group_name", "wsrep_on", "wsrep_cluster_name",
)  # fmt: skip
_REPLICAS = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'"
_GROUP_STATE = "SELECT MEMBER_STATE FROM performance_schema.replication_group_members WHERE MEMBER_ID = @@server_uuid"
_GALERA_STATE = "SHOW GLOBAL STATUS WHERE Variable_name = 'wsrep_local_state_comment'"


async def found_members(connection: MysqlConnection, release: Release) -> Sequence[MysqlMember]:
    """One: a server is in several places at most as a replica with several sources, of which the worst off is told."""
    names = ", ".join(f"'{name}'" for name in _VARIABLES)
    rows = await connection.ask(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})", 2)
    variables = {(name or "").lower(): value or "" for name, value in rows}
    channel = _worst(await _channels(connection, release))
    group, state = await _group(connection, variables)
    return [
        MysqlMember(
            role=await _role(connection, channel, group),
            server_uuid=variables.get("server_uuid", "")[:36] or None,
            server_id=count(variables.get("server_id")),
            group_name=group and group[:64],
            source_host=(_either(channel, "Source_Host", "Master_Host") or "")[:255] or None,
            source_port=positive(_either(channel, "Source_Port", "Master_Port")),
            is_read_only=_is_read_only(variables),
            replication_state=(state or "")[:64] or _state(channel),
            lag_seconds=count(_either(channel, "Seconds_Behind_Source", "Seconds_Behind_Master")),
            gtid_executed=variables.get("gtid_executed") or variables.get("gtid_current_pos") or None,
        )
    ]


async def _channels(connection: MysqlConnection, release: Release) -> Sequence[Named]:
    if release.is_mariadb:
        right = "SLAVE MONITOR" if release.is_mariadb_since(10, 5) else "REPLICATION CLIENT"
        statement = "SHOW ALL SLAVES STATUS"
    else:
        right = "REPLICATION CLIENT"
        statement = "SHOW REPLICA STATUS" if release.is_mysql_since(8, 0, 22) else "SHOW SLAVE STATUS"
    return await connection.ask_by_name(statement, grant=f"GRANT {right} ON *.* TO …")


async def _group(connection: MysqlConnection, variables: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The name and this member's state, of Galera's cluster or of MySQL's group; nothing for one not in any."""
    if variables.get("wsrep_on") == "ON":
        rows = await connection.ask(_GALERA_STATE, 2)
        return variables.get("wsrep_cluster_name") or "", next((value for _, value in rows), None)
    name = variables.get("group_replication_group_name")
    if not name:
        return None, None
    grant = "GRANT SELECT ON performance_schema.replication_group_members TO …"
    states = [state for (state,) in await connection.ask(_GROUP_STATE, 1, grant=grant)]
    return (name, states[0]) if states and states[0] not in (None, "OFFLINE") else (None, None)


async def _role(connection: MysqlConnection, channel: Named, group: str | None) -> str:
    if group is not None:
        return "group_member"
    if channel:
        return "replica"
    # Which needs PROCESS; without it one's own connection is all there is to see.
    replicas = count(await connection.value(_REPLICAS))
    return "source" if replicas else "standalone"


def _worst(channels: Sequence[Named]) -> Named:
    """The one that has stopped, or else is furthest behind; none of no channels."""
    return max(channels, key=lambda each: (not _is_running(each), _lag(each)), default={})


def _is_running(channel: Named) -> bool:
    return _threads(channel) == ("Yes", "Yes")


def _threads(channel: Named) -> tuple[str | None, str | None]:
    """What receives changes from the source, and what applies them."""
    receiver = _either(channel, "Replica_IO_Running", "Slave_IO_Running")
    return receiver, _either(channel, "Replica_SQL_Running", "Slave_SQL_Running")


def _lag(channel: Named) -> int:
    return count(_either(channel, "Seconds_Behind_Source", "Seconds_Behind_Master")) or 0


def _state(channel: Named) -> str | None:
    if not channel:
        return None
    receiver, applier = _threads(channel)
    return "running" if _is_running(channel) else f"receiver {receiver}, applier {applier}"[:64]


def _is_read_only(variables: Mapping[str, str]) -> bool:
    """MariaDB 12 has more values than ON and OFF."""
    return any(variables.get(name, "OFF") not in ("", "OFF", "0") for name in ("read_only", "super_read_only"))


def _either(channel: Named, name: str, older_name: str) -> str | None:
    return channel.get(name) or channel.get(older_name) or None
