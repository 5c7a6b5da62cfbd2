"""Which adapter serves which database type. A module is imported when its first server is connected to: each needs a
driver that may not be installed."""

from importlib import import_module
from typing import cast

from app.models.instance import DatabaseType
from app.syncs.adapters.port import Adapter
from app.syncs.failures import FailureKind, ServerFailure

# By type: the module here, and the extra that brings its driver.
_modules = {
    DatabaseType.POSTGRESQL: ("postgresql", None),
    DatabaseType.MYSQL: ("mysql", "mysql"),
    DatabaseType.MARIADB: ("mysql", "mysql"),
    DatabaseType.REDIS: ("redis", "redis"),
    DatabaseType.SQLSERVER: ("sqlserver", "sqlserver"),
    DatabaseType.ORACLE: ("oracle", "oracle"),
    DatabaseType.MONGODB: ("mongodb", "mongodb"),
}


def adapter_of(db_type: DatabaseType) -> Adapter:
    """Each module has one named `adapter`. Raises ServerFailure when the driver is not installed."""
    name, extra = _modules[db_type]
    try:
        return cast(Adapter, import_module(f"app.syncs.adapters.{name}").adapter)
    except ModuleNotFoundError as missing:
        if extra is None or (missing.name or "").startswith("app."):
            raise
        raise ServerFailure(
            FailureKind.DRIVER_MISSING,
            f"the driver for {db_type.value} is not installed ({missing.name})",
            f"install it with: pip install 'muster[{extra}]'",
        ) from missing
