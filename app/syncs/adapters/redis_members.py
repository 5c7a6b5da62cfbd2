"""A Redis server's place in replication or in a cluster, from INFO: https://redis.io/docs/latest/commands/info/"""

from collections.abc import Mapping

from app.inventory.records import RedisMember


def member_of(info: Mapping[str, str], node_id: str | None) -> RedisMember:
    mode = (info.get("redis_mode") or info.get("server_mode") or "standalone")[:32]
    if info.get("role") != "slave":
        return RedisMember(
            mode=mode,
            role="primary",
            node_id=_cut(node_id, 40),
            replication_id=_cut(info.get("master_replid"), 40),
            replica_count=whole_number(info.get("connected_slaves")),
        )
    return RedisMember(
        mode=mode,
        role="replica",
        node_id=_cut(node_id, 40),
        replication_id=_cut(info.get("master_replid"), 40),
        source_host=_cut(info.get("master_host"), 255),
        source_port=whole_number(info.get("master_port")),
        replication_state=_link_state(info),
        # -1 while there is no link.
        lag_seconds=whole_number(info.get("master_last_io_seconds_ago")),
        replica_count=whole_number(info.get("connected_slaves")),
    )


def whole_number(text: str | None) -> int | None:
    """None for what is no number, stands for none, or is beyond reason."""
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) <= 18
    return int(text) if text is not None and is_number else None


def _link_state(info: Mapping[str, str]) -> str | None:
    return "syncing" if info.get("master_sync_in_progress") == "1" else _cut(info.get("master_link_status"), 64)


def _cut(text: str | None, characters: int) -> str | None:
    """To the inventory's columns, should a server say more than it can mean."""
    return text[:characters] if text else None
