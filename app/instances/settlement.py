"""Settles what becomes of each judged row, before anything is written. Pure: look-ups come in as mappings.

A row is invalid when a cell is, when it names a credential that is not there, when its endpoint belongs to another
name, when a good row before it in the file has its name or endpoint, or, under `fail`, when its name is known; and when
it is more than the space takes, of rows in one file or of instances. A row with any error claims nothing. All other
rows are good: skipped or updated where the name is known, else created.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from app.errors import cut
from app.instances import fields
from app.instances.batch_report import RowOutcome, RowStatus
from app.instances.batch_repository import StoredInstance
from app.instances.csv_rows import JudgedFile, fingerprint
from app.instances.judged_rows import BadRow, GoodRow, RowError
from app.instances.quotas import QUOTA_EXCEEDED, Quotas, full
from app.models.instance import DatabaseType

AnyRow = GoodRow | BadRow


class OnExisting(StrEnum):
    """What becomes of a row whose name is known."""

    SKIP = "skip"
    UPDATE = "update"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Owner:
    """The instance that has an endpoint."""

    instance_id: int
    name: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows of one chunk's rows: names, endpoints that belong to another name, credentials, and, for
    updates, what is stored."""

    id_by_name: Mapping[str, int]
    owner_by_endpoint: Mapping[str, Owner]
    credential_id_by_name: Mapping[str, int]
    stored: Mapping[int, StoredInstance]


@dataclass(slots=True)
class Decisions:
    """What is decided so far, by line: final outcomes, and the instances to update. Other good rows are created."""

    outcomes: dict[int, RowOutcome] = field(default_factory=dict)
    update_ids: dict[int, int] = field(default_factory=dict)
    invalid: int = 0


def endpoint_of(row: GoodRow, stored: StoredInstance | None, columns: frozenset[str]) -> str:
    """The endpoint that the row stands for: columns that the file lacks keep the stored instance's values."""
    if stored is None or {"port", "database_name"} <= columns:
        return row.endpoint_key
    port = row.port if "port" in columns else stored.values["port"]
    database_name = row.database_name if "database_name" in columns else stored.values["database_name"]
    return fields.endpoint_key(DatabaseType(row.db_type), row.host, port, database_name)


class _Claims:
    """Which line of the file was first with a name or an endpoint; only contested ones need to be kept."""

    def __init__(self, contested: frozenset[int] | None) -> None:
        self._contested = contested
        self._line_by_key: dict[str, int] = {}

    def concern(self, key: str) -> bool:
        return self._contested is None or (bool(self._contested) and fingerprint(key) in self._contested)

    def line_of(self, key: str) -> int | None:
        return self._line_by_key.get(key)

    def claim(self, key: str, line: int) -> None:
        if self.concern(key):
            self._line_by_key[key] = line


class Settlement:
    """Settles a file's rows chunk by chunk, in the order of the file."""

    def __init__(self, judged: JudgedFile, on_existing: OnExisting, quotas: Quotas) -> None:
        self.decisions = Decisions()
        self._quotas = quotas
        self._rows_seen = 0
        self._room = quotas.room
        self._columns = judged.columns
        self._on_existing = on_existing
        self._names = _Claims(judged.contested_names)
        # Without these columns an update's endpoint is known only here, not when the file was judged.
        endpoints_were_judged = on_existing is not OnExisting.UPDATE or {"port", "database_name"} <= judged.columns
        self._endpoints = _Claims(judged.contested_endpoints if endpoints_were_judged else None)

    def taken(self) -> Decisions:
        """What was decided since this was last asked; nothing of it is kept."""
        taken, self.decisions = self.decisions, Decisions()
        return taken

    def recall(self, rows: Sequence[AnyRow], good_lines: Collection[int]) -> None:
        """Takes note of rows that an earlier attempt has settled: their names and endpoints are claimed."""
        self._rows_seen += len(rows)
        for row in rows:
            if isinstance(row, GoodRow) and row.line in good_lines:
                self._names.claim(row.name, row.line)
                self._endpoints.claim(row.endpoint_key, row.line)

    def settle(self, rows: Sequence[AnyRow], known: Known) -> None:
        taken, beyond = self._within_quota(rows)
        for row in self._undecided(taken, known):
            if isinstance(row, BadRow):
                self._refuse(row, row.errors)
            else:
                self._settle_good(row, known)
        for row in beyond:
            self._refuse(row, (*(row.errors if isinstance(row, BadRow) else ()), self._too_many_rows()))

    def _within_quota(self, rows: Sequence[AnyRow]) -> tuple[Sequence[AnyRow], Sequence[AnyRow]]:
        """The rows, parted where the file has as many as the space takes."""
        if self._quotas.rows is None:
            return rows, ()
        left = max(0, self._quotas.rows - self._rows_seen)
        self._rows_seen += len(rows)
        return rows[:left], rows[left:]

    def _too_many_rows(self) -> RowError:
        return RowError(None, QUOTA_EXCEEDED, f"the space takes {self._quotas.rows} rows of one file; this is beyond")

    def _undecided(self, rows: Sequence[AnyRow], known: Known) -> Sequence[AnyRow]:
        """The rows that need a look: where the database knows none of them, only the bad and the contested ones."""
        if known.id_by_name or known.owner_by_endpoint or self._room is not None:
            return rows
        credentials = known.credential_id_by_name.keys() | {None}
        return [
            row
            for row in rows
            if isinstance(row, BadRow)
            or row.credential not in credentials
            or self._names.concern(row.name)
            or self._endpoints.concern(row.endpoint_key)
        ]

    def _refuse(self, row: AnyRow, errors: tuple[RowError, ...]) -> None:
        self.decisions.outcomes[row.line] = RowOutcome(row.line, row.name, RowStatus.INVALID, errors=errors)
        self.decisions.invalid += 1

    def _settle_good(self, row: GoodRow, known: Known) -> None:
        instance_id = known.id_by_name.get(row.name)
        stored = known.stored.get(instance_id) if instance_id is not None else None
        endpoint = endpoint_of(row, stored, self._columns)
        errors = [*self._repeated(row, endpoint), *self._refused_by_database(row, endpoint, known)]
        if instance_id is None and not errors:
            errors += self._beyond_room()
        if errors:
            self._refuse(row, tuple(errors))
            return
        self._names.claim(row.name, row.line)
        self._endpoints.claim(endpoint, row.line)
        if instance_id is None:
            return
        if self._on_existing is OnExisting.UPDATE:
            self.decisions.update_ids[row.line] = instance_id
        else:
            note = RowError("name", "name_exists", f"an instance named {row.name} is registered already")
            self.decisions.outcomes[row.line] = RowOutcome(row.line, row.name, RowStatus.SKIPPED, instance_id, (note,))

    def _beyond_room(self) -> list[RowError]:
        """Takes a place for a row that is to be created, or tells that there is none."""
        if self._room is None:
            return []
        if self._room == 0:
            return [RowError(None, QUOTA_EXCEEDED, full(self._quotas.instances))]
        self._room -= 1
        return []

    def _repeated(self, row: GoodRow, endpoint: str) -> list[RowError]:
        errors = []
        line = self._names.line_of(row.name)
        if line is not None:
            errors.append(RowError("name", "duplicate_in_file", f"line {line} has this name already", row.name))
        line = self._endpoints.line_of(endpoint)
        if line is not None:
            message = f"line {line} has this endpoint already ({cut(endpoint)})"
            errors.append(RowError("host", "duplicate_in_file", message, row.host))
        return errors

    def _refused_by_database(self, row: GoodRow, endpoint: str, known: Known) -> list[RowError]:
        errors = []
        is_repeated = self._names.line_of(row.name) is not None
        if self._on_existing is OnExisting.FAIL and row.name in known.id_by_name and not is_repeated:
            message = f"an instance named {row.name} is registered already"
            errors.append(RowError("name", "name_exists", message, row.name))
        owner = known.owner_by_endpoint.get(endpoint)
        # A chunk written meanwhile may have registered it: then the line before is the reason.
        is_of_this_file = self._endpoints.line_of(endpoint) is not None
        if owner is not None and owner.name != row.name and not is_of_this_file:
            message = f"{cut(endpoint)} is registered already, as {owner.name} (instance {owner.instance_id})"
            errors.append(RowError("host", "endpoint_exists", message, row.host))
        if row.credential is not None and row.credential not in known.credential_id_by_name:
            message = f"there is no credential named {row.credential!r} in this space"
            errors.append(RowError("credential", "credential_not_found", message, row.credential))
        return errors
