"""The variables of MySQL and MariaDB that matter: those a server lacks are not in its answer.

None holds a secret: `wsrep_sst_auth`, `report_password` and their like are left out, and so is whatever holds SQL.
https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html,
https://mariadb.com/kb/en/full-list-of-mariadb-options-system-and-status-variables/
"""

SETTINGS = frozenset({
    # What it is
    "version", "version_comment", "version_compile_os", "version_compile_machine", "license", "hostname", "port",
    "bind_address", "datadir", "tmpdir", "innodb_data_home_dir", "innodb_page_size", "lower_case_table_names",
    "character_set_server", "collation_server", "default_storage_engine", "system_time_zone", "time_zone", "sql_mode",
    "transaction_isolation", "tx_isolation", "event_scheduler", "plugin_dir",
    # Connections
    "max_connections", "max_user_connections", "max_connect_errors", "max_allowed_packet", "connect_timeout",
    "wait_timeout", "interactive_timeout", "net_read_timeout", "net_write_timeout", "skip_name_resolve",
    "skip_networking", "back_log", "thread_cache_size", "thread_handling", "thread_pool_size",
    # Memory and statements
    "innodb_buffer_pool_size", "innodb_buffer_pool_instances", "innodb_dedicated_server", "innodb_log_buffer_size",
    "key_buffer_size", "aria_pagecache_buffer_size", "join_buffer_size", "sort_buffer_size", "read_buffer_size",
    "read_rnd_buffer_size", "tmp_table_size", "max_heap_table_size", "table_open_cache", "table_definition_cache",
    "open_files_limit", "query_cache_type", "query_cache_size", "max_execution_time", "max_statement_time",
    "lock_wait_timeout", "innodb_lock_wait_timeout", "innodb_deadlock_detect", "innodb_print_all_deadlocks",
    # Storage and durability
    "innodb_file_per_table", "innodb_flush_log_at_trx_commit", "innodb_flush_method", "innodb_io_capacity",
    "innodb_io_capacity_max", "innodb_log_file_size", "innodb_log_files_in_group", "innodb_redo_log_capacity",
    "innodb_doublewrite", "innodb_undo_tablespaces", "innodb_undo_log_truncate", "innodb_strict_mode",
    "innodb_stats_persistent", "innodb_stats_on_metadata", "innodb_read_io_threads", "innodb_write_io_threads",
    "innodb_encrypt_tables", "innodb_encrypt_log", "default_table_encryption",
    # Binary log and replication
    "log_bin", "log_bin_basename", "binlog_format", "binlog_row_image", "sync_binlog", "binlog_expire_logs_seconds",
    "expire_logs_days", "max_binlog_size", "binlog_encryption", "encrypt_binlog", "gtid_mode",
    "enforce_gtid_consistency", "gtid_strict_mode", "gtid_domain_id", "server_id", "server_uuid", "read_only",
    "super_read_only", "log_replica_updates", "log_slave_updates", "replica_parallel_workers",
    "slave_parallel_workers", "slave_parallel_threads", "slave_parallel_mode", "replica_preserve_commit_order",
    "relay_log_recovery", "rpl_semi_sync_source_enabled", "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_replica_enabled", "rpl_semi_sync_slave_enabled", "group_replication_group_name",
    "group_replication_single_primary_mode", "wsrep_on", "wsrep_cluster_name", "wsrep_cluster_address",
    "wsrep_node_name", "wsrep_sst_method", "wsrep_slave_threads",
    # Logs
    "log_error", "general_log", "slow_query_log", "long_query_time", "log_queries_not_using_indexes", "log_output",
    "log_error_verbosity", "log_warnings", "performance_schema", "server_audit_logging",
    # Security
    "require_secure_transport", "have_ssl", "ssl_ca", "ssl_cert", "tls_version", "ssl_cipher", "local_infile",
    "secure_file_priv", "skip_show_database", "old_passwords", "default_authentication_plugin",
    "authentication_policy", "default_password_lifetime", "disconnect_on_expired_password", "partial_revokes",
    "activate_all_roles_on_login", "mandatory_roles", "validate_password.policy", "validate_password.length",
    "validate_password_policy", "validate_password_length", "simple_password_check_minimal_length",
    "password_history", "password_reuse_interval", "strict_password_validation", "max_password_errors",
})  # fmt: skip
