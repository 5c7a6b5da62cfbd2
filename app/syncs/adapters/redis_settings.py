"""The settings of Redis and Valkey that matter; those a server lacks are not in its answer.

`requirepass`, `masterauth`, `tls-key-file-pass` and `tls-client-key-file-pass` are secrets and never asked for.
https://redis.io/docs/latest/operate/oss_and_stack/management/config/
"""

from collections.abc import Mapping

SETTINGS = (
    # Where it listens and keeps its data
    "port", "tls-port", "bind", "unixsocket", "protected-mode", "dir", "dbfilename", "logfile", "loglevel", "databases",
    "aclfile", "daemonize", "supervised",
    # Clients
    "maxclients", "timeout", "tcp-keepalive", "tcp-backlog", "client-output-buffer-limit", "client-query-buffer-limit",
    "maxmemory-clients", "io-threads",
    # Memory
    "maxmemory", "maxmemory-policy", "maxmemory-samples", "replica-ignore-maxmemory", "activedefrag",
    "lazyfree-lazy-eviction", "lazyfree-lazy-expire", "lazyfree-lazy-server-del", "oom-score-adj",
    # Durability
    "save", "stop-writes-on-bgsave-error", "rdbcompression", "rdbchecksum", "appendonly", "appendfsync",
    "appenddirname", "auto-aof-rewrite-percentage", "auto-aof-rewrite-min-size", "aof-use-rdb-preamble",
    # Replication and cluster
    "replicaof", "replica-read-only", "replica-serve-stale-data", "replica-priority", "repl-backlog-size",
    "repl-diskless-sync", "repl-timeout", "min-replicas-to-write", "min-replicas-max-lag", "masteruser",
    "cluster-enabled", "cluster-node-timeout", "cluster-require-full-coverage", "cluster-allow-reads-when-down",
    # Security
    "tls-cert-file", "tls-ca-cert-file", "tls-auth-clients", "tls-protocols", "tls-replication", "tls-cluster",
    "enable-debug-command", "enable-module-command", "enable-protected-configs", "acl-pubsub-default",
    # Behaviour
    "hz", "dynamic-hz", "slowlog-log-slower-than", "slowlog-max-len", "latency-monitor-threshold",
    "notify-keyspace-events", "lua-time-limit", "busy-reply-threshold", "active-expire-effort",
)  # fmt: skip

# By the setting's name, the field of INFO that tells the same, for servers that do not let CONFIG be asked.
FIELDS = {
    "port": "tcp_port",
    "maxclients": "maxclients",
    "maxmemory": "maxmemory",
    "maxmemory-policy": "maxmemory_policy",
    "hz": "configured_hz",
    "io-threads": "io_threads_configured",
    "replica-priority": "slave_priority",
}
# The same for those that INFO tells as 1 and 0.
SWITCHES = {
    "appendonly": "aof_enabled",
    "cluster-enabled": "cluster_enabled",
    "replica-read-only": "slave_read_only",
    "activedefrag": "active_defrag_enabled",
}


def settings_of_info(info: Mapping[str, str]) -> dict[str, str]:
    settings = {name: info[found] for name, found in FIELDS.items() if found in info}
    switches = {name: info[found] == "1" for name, found in SWITCHES.items() if found in info}
    return settings | {name: "yes" if is_on else "no" for name, is_on in switches.items()}
