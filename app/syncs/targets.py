"""Makes of a server's registered place, and of what it is signed in to with, the target that an adapter connects to."""

from dataclasses import dataclass
from pathlib import Path

from app.config import Settings
from app.credentials.sign_ins import SignIn
from app.models.instance import DatabaseType, TlsMode
from app.syncs.adapters.port import Target
from app.syncs.addresses import AddressPolicy
from app.syncs.failures import FailureKind, ServerFailure


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """Where a server is said to be, before its name is resolved. `tls_mode` None is the configured one."""

    db_type: DatabaseType
    host: str
    port: int
    database_name: str | None = None
    tls_mode: TlsMode | None = None
    tls_ca_file: str | None = None


class Targets:
    """The only way to a target, so that no address is connected to that was not found allowed."""

    def __init__(self, settings: Settings, addresses: AddressPolicy) -> None:
        self._settings = settings
        self._addresses = addresses

    async def of(self, place: ServerPlace, sign_in: SignIn) -> Target:
        """Raises ServerFailure for a name that cannot be resolved, an address that is not allowed, or a CA file that is
        not there."""
        settings = self._settings
        authorities = self._ca_file(place.tls_ca_file)
        return Target(
            place.db_type,
            place.host,
            place.port,
            await self._addresses.resolve(place.host, place.port),
            place.database_name,
            sign_in.username,
            sign_in.password,
            place.tls_mode or TlsMode(settings.sync_tls_mode),
            authorities,
            connect_seconds=settings.sync_connect_seconds,
            statement_seconds=settings.sync_seconds,
            max_databases=settings.sync_databases,
        )

    def _ca_file(self, name: str | None) -> Path | None:
        """Whoever names a file names one of the directory: any other would tell what there is on this machine."""
        if name is None:
            return None
        directory = self._settings.tls_ca_dir
        if directory is None:
            raise _no_authorities(name, "set MUSTER_TLS_CA_DIR to the directory that holds the files of authorities")
        path = directory / name
        if not _is_plain(name) or not _is_file(path):
            raise _no_authorities(name, "tls_ca_file is the plain name of a PEM file in MUSTER_TLS_CA_DIR")
        return path


def _is_plain(name: str) -> bool:
    return Path(name).name == name and not name.startswith(".") and "\\" not in name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        # A name that the file system takes for none: too long, with a NUL.
        return False


def _no_authorities(name: str, hint: str) -> ServerFailure:
    return ServerFailure(FailureKind.TLS, f"there is no file {name!r} of certificate authorities", hint)
