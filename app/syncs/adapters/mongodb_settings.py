"""Which of MongoDB's parameters and options are kept, and in which words; never a password or a key.

https://www.mongodb.com/docs/manual/reference/parameters/ and .../reference/configuration-options/"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

# Of getParameter, which leaves out those that the version does not know.
PARAMETERS = frozenset({
    "authenticationMechanisms", "cursorTimeoutMillis", "disabledSecureAllocatorDomains", "enableLocalhostAuthBypass",
    "featureCompatibilityVersion", "internalQueryMaxBlockingSortMemoryUsageBytes", "logLevel",
    "maxTransactionLockRequestTimeoutMillis", "minSnapshotHistoryWindowInSeconds", "notablescan",
    "opensslCipherConfig", "periodicNoopIntervalSecs", "quiet", "scramIterationCount", "scramSHA256IterationCount",
    "tlsMode", "transactionLifetimeLimitSeconds", "ttlMonitorEnabled", "ttlMonitorSleepSecs",
    "wiredTigerConcurrentReadTransactions", "wiredTigerConcurrentWriteTransactions",
})  # fmt: skip
# Sections of getCmdLineOpts' `parsed`.
OPTIONS = frozenset({
    "auditLog", "net", "operationProfiling", "processManagement", "replication", "security", "setParameter",
    "sharding", "storage", "systemLog",
})  # fmt: skip
_secret = re.compile(r"passw|secret|passphrase|keyfile|\bkey\b|token|bind\.query|connectionstring|uri$", re.IGNORECASE)
_MOST_CHARACTERS = 1000


def flattened(found: Mapping[str, Any], names: Collection[str]) -> dict[str, str]:
    """By dotted name, as MongoDB's own option files write it."""
    kept = {name: value for name, value in found.items() if name in names}
    return {name: value[:_MOST_CHARACTERS] for name, value in _leaves(kept, "") if not _secret.search(name)}


def _leaves(found: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _in_words(value)


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
