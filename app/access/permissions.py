"""What there is to be allowed, and the roles that everybody finds.

A permission's name is `resource:action`. Its row in the table `permissions` is written by a migration; a test compares
the two.
"""

from collections.abc import Mapping
from enum import StrEnum


class Permission(StrEnum):
    INSTANCE_READ = "instance:read"
    INSTANCE_CREATE = "instance:create"
    INSTANCE_UPDATE = "instance:update"
    INSTANCE_DELETE = "instance:delete"
    INSTANCE_PURGE = "instance:purge"
    INSTANCE_EXPORT = "instance:export"
    TAG_READ = "tag:read"
    TAG_CREATE = "tag:create"
    TAG_UPDATE = "tag:update"
    TAG_DELETE = "tag:delete"
    CREDENTIAL_READ = "credential:read"
    CREDENTIAL_CREATE = "credential:create"
    CREDENTIAL_UPDATE = "credential:update"
    CREDENTIAL_DELETE = "credential:delete"
    SPACE_READ = "space:read"
    SPACE_CREATE = "space:create"
    SPACE_UPDATE = "space:update"
    SPACE_DELETE = "space:delete"
    MEMBER_READ = "member:read"
    MEMBER_UPDATE = "member:update"
    USER_READ = "user:read"
    USER_CREATE = "user:create"
    USER_UPDATE = "user:update"
    USER_DELETE = "user:delete"
    ROLE_READ = "role:read"
    ROLE_CREATE = "role:create"
    ROLE_UPDATE = "role:update"
    ROLE_DELETE = "role:delete"
    AUDIT_READ = "audit:read"
    OPERATION_READ = "operation:read"
    OPERATION_READ_ALL = "operation:read_all"
    OPERATION_CANCEL = "operation:cancel"
    OPERATION_DELETE = "operation:delete"
    SYNC_RUN = "sync:run"
    SCHEDULE_READ = "schedule:read"
    SCHEDULE_CREATE = "schedule:create"
    SCHEDULE_UPDATE = "schedule:update"
    SCHEDULE_DELETE = "schedule:delete"
    CLASSIFICATION_READ = "classification:read"
    CLASSIFICATION_CREATE = "classification:create"
    CLASSIFICATION_UPDATE = "classification:update"
    CLASSIFICATION_DELETE = "classification:delete"
    BACKTEST_DELETE = "backtest:delete"
    MAINTENANCE_READ = "maintenance:read"
    MAINTENANCE_CLEAN = "maintenance:clean"


DESCRIPTIONS: Mapping[Permission, str] = {
    Permission.INSTANCE_READ: "See instances, lists of them and statistics",
    Permission.INSTANCE_CREATE: "Register instances, one by one or by import",
    Permission.INSTANCE_UPDATE: "Change, tag and restore instances",
    Permission.INSTANCE_DELETE: "Delete instances softly, which can be undone",
    Permission.INSTANCE_PURGE: "Delete instances for good, with every row that refers to them",
    Permission.INSTANCE_EXPORT: "Download instances as a file",
    Permission.TAG_READ: "See tags",
    Permission.TAG_CREATE: "Make tags",
    Permission.TAG_UPDATE: "Change tags",
    Permission.TAG_DELETE: "Delete tags",
    Permission.CREDENTIAL_READ: "See credentials, though never their passwords",
    Permission.CREDENTIAL_CREATE: "Make credentials",
    Permission.CREDENTIAL_UPDATE: "Change credentials and their passwords",
    Permission.CREDENTIAL_DELETE: "Delete credentials",
    Permission.SPACE_READ: "See spaces",
    Permission.SPACE_CREATE: "Make spaces",
    Permission.SPACE_UPDATE: "Change spaces, their quotas, and archive them",
    Permission.SPACE_DELETE: "Delete spaces with everything in them",
    Permission.MEMBER_READ: "See who holds which role in a space",
    Permission.MEMBER_UPDATE: "Give and take roles in a space",
    Permission.USER_READ: "See users",
    Permission.USER_CREATE: "Make users",
    Permission.USER_UPDATE: "Change users, disable them, and give them roles",
    Permission.USER_DELETE: "Delete users with everything they own",
    Permission.ROLE_READ: "See roles and permissions",
    Permission.ROLE_CREATE: "Make roles",
    Permission.ROLE_UPDATE: "Change roles",
    Permission.ROLE_DELETE: "Delete roles",
    Permission.AUDIT_READ: "Read the audit trail",
    Permission.OPERATION_READ: "See one's own operations",
    Permission.OPERATION_READ_ALL: "See everybody's operations",
    Permission.OPERATION_CANCEL: "Cancel, resume and retry operations",
    Permission.OPERATION_DELETE: "Delete operations with their results",
    Permission.SYNC_RUN: "Connect to servers: test connections, and sync what is known of them",
    Permission.SCHEDULE_READ: "See schedules of syncs",
    Permission.SCHEDULE_CREATE: "Make schedules of syncs",
    Permission.SCHEDULE_UPDATE: "Change, pause and run schedules of syncs",
    Permission.SCHEDULE_DELETE: "Delete schedules of syncs",
    Permission.CLASSIFICATION_READ: "See the rules by which accounts are classified, and preview them",
    Permission.CLASSIFICATION_CREATE: "Make rules by which accounts are classified",
    Permission.CLASSIFICATION_UPDATE: "Change rules by which accounts are classified",
    Permission.CLASSIFICATION_DELETE: "Delete rules by which accounts are classified",
    Permission.BACKTEST_DELETE: "Delete backtest tasks with their results",
    Permission.MAINTENANCE_READ: "See rows that were left behind",
    Permission.MAINTENANCE_CLEAN: "Remove rows that were left behind",
}

ADMIN, OPERATOR, VIEWER = "admin", "operator", "viewer"

_viewer = frozenset({
    Permission.INSTANCE_READ,
    Permission.INSTANCE_EXPORT,
    Permission.TAG_READ,
    Permission.SPACE_READ,
    Permission.OPERATION_READ,
    Permission.SCHEDULE_READ,
    Permission.CLASSIFICATION_READ,
})  # fmt: skip
_operator = _viewer | {
    Permission.INSTANCE_CREATE,
    Permission.INSTANCE_UPDATE,
    Permission.INSTANCE_DELETE,
    Permission.TAG_CREATE,
    Permission.TAG_UPDATE,
    Permission.TAG_DELETE,
    Permission.CREDENTIAL_READ,
    Permission.CREDENTIAL_CREATE,
    Permission.CREDENTIAL_UPDATE,
    Permission.CREDENTIAL_DELETE,
    Permission.MEMBER_READ,
    Permission.OPERATION_CANCEL,
    Permission.OPERATION_DELETE,
    Permission.SYNC_RUN,
    Permission.SCHEDULE_CREATE,
    Permission.SCHEDULE_UPDATE,
    Permission.SCHEDULE_DELETE,
    Permission.CLASSIFICATION_CREATE,
    Permission.CLASSIFICATION_UPDATE,
    Permission.CLASSIFICATION_DELETE,
}
# They cannot be edited. An operator does the daily work, without deletion for good and without other people's rights.
BUILT_IN_ROLES: Mapping[str, frozenset[Permission]] = {
    ADMIN: frozenset(Permission),
    OPERATOR: frozenset(_operator),
    VIEWER: _viewer,
}
