"""How the PostgreSQL server of a test pod is configured: disposable, small, and watching everything."""

from __future__ import annotations

#: postgresql.conf settings that PostgreSQL 15 and later understand. The rest of podctl.data relies on them.
SERVER_SETTINGS: dict[str, str] = {
    # A pod is thrown away, never recovered: durability would cost most of a reset's time.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # Row changes are read by logical decoding through SQL functions, so no WAL sender is needed.
    "wal_level": "logical",
    "max_wal_senders": "0",
    "max_replication_slots": "8",
    "max_logical_replication_workers": "0",
    # A slot would otherwise keep WAL without end and let an agent fill the disk; losing it is reported, not ignored.
    "max_slot_wal_keep_size": "1GB",
    # Statements and refusals are read back from this one file; rotating it would lose the reader's place.
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_directory": "log",
    "log_filename": "postgresql.log",
    "log_rotation_age": "0",
    "log_rotation_size": "0",
    "log_min_messages": "warning",
    "log_min_error_statement": "error",
    "log_error_verbosity": "default",
    "log_timezone": "UTC",
    # Every session but the superuser's has its statements logged, with their parameters: only a superuser may change that.
    "log_min_duration_statement": "0",
    "log_parameter_max_length": "4096",
    "log_parameter_max_length_on_error": "4096",
    "log_checkpoints": "off",
    "log_connections": "off",
    # Refusals are recognised by their English text.
    "lc_messages": "C",
    "timezone": "UTC",
    # Memory of an idle server counts once for each database of each pod.
    "shared_buffers": "16MB",
    "huge_pages": "off",
    "max_connections": "40",
    # podctl must get in while services and agent hold every other connection.
    "superuser_reserved_connections": "5",
    # A prepared transaction would outlive its session and hide a change from the attempt that made it.
    "max_prepared_transactions": "0",
    "password_encryption": "scram-sha-256",
    # Defaults against accidents: a session may raise its own timeouts, so the attempt's wall-clock limit is the real bound.
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "temp_file_limit": "256MB",
    "search_path": "public",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # The template is analysed and a clone lives for one attempt; a worker inside it delays DROP DATABASE by 100 ms.
    "autovacuum": "off",
    # CREATE and DROP DATABASE make the checkpoints that are needed.
    "checkpoint_timeout": "30min",
    # Small files, made as needed and not kept for later: they are in memory, and a copied directory has at least one.
    "wal_init_zero": "off",
    "wal_recycle": "off",
    "update_process_title": "off",
}

#: What the settings above say of everybody does not hold for podctl's own sessions.
SUPERUSER_SETTINGS: dict[str, str] = {
    "log_min_duration_statement": "-1",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "temp_file_limit": "-1",
    "search_path": '"$user", public',
}

#: A service may work as long as it does in production.
SERVICE_SETTINGS: dict[str, str] = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "temp_file_limit": "1GB",
}

#: PostgreSQL 18 adds these; older servers would refuse to start with them.
_SINCE_18: dict[str, str] = {
    # Shares blocks where the file system can (XFS, btrfs) and copies inside the kernel where it cannot.
    "file_copy_method": "clone",
    # No I/O worker processes for a database of a few megabytes.
    "io_method": "sync",
}


def settings_for(major: int) -> dict[str, str]:
    """`SERVER_SETTINGS` with what PostgreSQL ``major`` knows on top."""
    return {**SERVER_SETTINGS, **(_SINCE_18 if major >= 18 else {})}
