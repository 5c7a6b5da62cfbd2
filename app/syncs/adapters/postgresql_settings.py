"""The settings of a PostgreSQL server that matter to whoever answers for it.

None holds a secret, which is why some are missing that matter: `primary_conninfo` holds a password,
`ssl_passphrase_command`, `archive_command` and `restore_command` may. Those that a session of ours begins with are
missing too (`statement_timeout`, `lock_timeout`, `default_transaction_read_only`, `search_path`, `jit`): what it would
read are its own.
"""

_CONNECTIONS = (
    "listen_addresses", "port", "max_connections", "superuser_reserved_connections", "reserved_connections",
    "tcp_keepalives_idle", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout",
    "authentication_timeout",
)  # fmt: skip
_SECURITY = (
    "ssl", "ssl_min_protocol_version", "ssl_ciphers", "ssl_ca_file", "ssl_cert_file", "ssl_crl_file",
    "password_encryption", "scram_iterations", "row_security", "krb_server_keyfile", "hba_file", "ident_file",
    "db_user_namespace", "md5_password_warnings",
)  # fmt: skip
_MEMORY = (
    "shared_buffers", "huge_pages", "work_mem", "hash_mem_multiplier", "maintenance_work_mem", "autovacuum_work_mem",
    "effective_cache_size", "temp_buffers", "temp_file_limit", "logical_decoding_work_mem", "shared_memory_type",
    "max_prepared_transactions", "max_locks_per_transaction",
)  # fmt: skip
_WRITE_AHEAD_LOG = (
    "wal_level", "fsync", "synchronous_commit", "full_page_writes", "wal_compression", "wal_buffers", "wal_log_hints",
    "commit_delay", "checkpoint_timeout", "checkpoint_completion_target", "max_wal_size", "min_wal_size",
    "archive_mode", "archive_library", "archive_timeout", "data_checksums", "summarize_wal",
)  # fmt: skip
_REPLICATION = (
    "hot_standby", "hot_standby_feedback", "max_wal_senders", "max_replication_slots", "wal_keep_size",
    "wal_keep_segments", "max_slot_wal_keep_size", "wal_sender_timeout", "wal_receiver_timeout", "primary_slot_name",
    "synchronous_standby_names", "max_standby_streaming_delay", "max_standby_archive_delay",
    "recovery_min_apply_delay", "recovery_target_timeline", "max_logical_replication_workers", "cluster_name",
    "sync_replication_slots", "synchronized_standby_slots", "idle_replication_slot_timeout",
)  # fmt: skip
_AUTOVACUUM = (
    "autovacuum", "autovacuum_max_workers", "autovacuum_naptime", "autovacuum_vacuum_threshold",
    "autovacuum_vacuum_scale_factor", "autovacuum_vacuum_insert_scale_factor", "autovacuum_analyze_scale_factor",
    "autovacuum_freeze_max_age", "autovacuum_multixact_freeze_max_age", "autovacuum_vacuum_cost_delay",
    "autovacuum_vacuum_cost_limit", "autovacuum_vacuum_max_threshold", "vacuum_cost_limit",
    "vacuum_failsafe_age", "track_counts",
)  # fmt: skip
_PLANNING_AND_WORKERS = (
    "random_page_cost", "seq_page_cost", "effective_io_concurrency", "default_statistics_target", "io_method",
    "max_worker_processes", "max_parallel_workers", "max_parallel_workers_per_gather",
    "max_parallel_maintenance_workers", "default_transaction_isolation", "plan_cache_mode",
)  # fmt: skip
_LOGGING = (
    "logging_collector", "log_destination", "log_min_messages", "log_min_duration_statement", "log_statement",
    "log_connections", "log_disconnections", "log_lock_waits", "log_temp_files", "log_checkpoints",
    "log_autovacuum_min_duration", "log_line_prefix", "log_timezone", "deadlock_timeout", "track_io_timing",
    "track_activity_query_size", "compute_query_id",
)  # fmt: skip
_SERVER = (
    "server_version", "data_directory", "config_file", "block_size", "wal_segment_size", "server_encoding",
    "lc_messages", "TimeZone", "default_tablespace", "temp_tablespaces", "shared_preload_libraries",
    "session_preload_libraries", "local_preload_libraries", "event_triggers", "allow_alter_system",
)  # fmt: skip

# A server has those of its version; of these, those that it does not show to the account are missing as well.
NAMES = [
    *_CONNECTIONS, *_SECURITY, *_MEMORY, *_WRITE_AHEAD_LOG, *_REPLICATION, *_AUTOVACUUM, *_PLANNING_AND_WORKERS,
    *_LOGGING, *_SERVER,
]  # fmt: skip
