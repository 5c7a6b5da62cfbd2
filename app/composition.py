"""What the server and the workers are both made of, wired once."""

from collections.abc import Mapping
from datetime import timedelta

from app.access.idempotency_store import IdempotencyStore
from app.access.identities import Identities
from app.access.tokens import open_access_tokens
from app.config import Settings
from app.credentials.encryption import open_secret_box
from app.credentials.sign_ins import SignIns
from app.database import Database
from app.instances.background_batches import BackgroundBatches
from app.instances.batch_creation import InstanceBatchCreationService
from app.instances.batch_deletion import InstanceBatchDeletionService
from app.instances.cascade import plan
from app.instances.deletion_operation import DeletionOperation
from app.instances.file_judge import FileJudge
from app.instances.import_operation import ImportOperation
from app.instances.operation_end import tell_owner
from app.instances.plan_token import PlanTokens
from app.instances.problems import ProblemFiles
from app.instances.uploads import Uploads
from app.models.operation import OperationKind
from app.operations.engine import OperationEngine
from app.operations.local_engine import LocalEngine
from app.operations.queue_engine import QueueEngine
from app.operations.runner import OperationRunner
from app.operations.work import OperationHandler
from app.syncs.addresses import AddressPolicy
from app.syncs.breaker import CircuitBreaker
from app.syncs.connection_test_operation import ConnectionTestOperation
from app.syncs.connection_tests import ConnectionTests
from app.syncs.fetching import ServerReader
from app.syncs.instance_sync import InstanceSync
from app.syncs.scheduler import Scheduler
from app.syncs.server_access import ServerAccess
from app.syncs.service import DataSyncService
from app.syncs.slots import ConnectionSlots
from app.syncs.sync_operation import SyncOperation
from app.syncs.targets import Targets


class Services:
    """Opened with the process; `close` ends the judging process and the connections.

    With `judges_soon` the judging process is started at once, so that the first upload need not wait for it.
    """

    def __init__(self, settings: Settings, *, judges_soon: bool = True) -> None:
        self.settings = settings
        self.secret_box = open_secret_box(settings)
        self.tokens = open_access_tokens(settings)
        self.database = Database(settings)
        self.identities = Identities(self.database, self.tokens)
        self.idempotency_store = IdempotencyStore(self.database)
        self.uploads = Uploads(settings, self.database)
        self.uploads.prepare()
        self.plan_token_lifetime = timedelta(seconds=settings.plan_token_seconds)
        self.batch_deletion = InstanceBatchDeletionService(
            self.database,
            plan,
            PlanTokens(self.secret_box, self.plan_token_lifetime),
            connections=settings.deletion_connections,
        )
        self.operation_engine = self._engine()
        self.targets = Targets(settings, AddressPolicy(settings))
        self.sign_ins = SignIns(self.database, self.secret_box)
        self.breaker = CircuitBreaker(self.database)
        self.connection_slots = ConnectionSlots(settings.sync_connections, settings.sync_connections_per_host)
        self.server_access = ServerAccess(self.targets, self.sign_ins, seconds=settings.sync_seconds)
        self.connection_tests = ConnectionTests(self.database, self.operation_engine, self.server_access, self.breaker)
        self.data_sync = DataSyncService(self.operation_engine)
        self.scheduler = Scheduler(self.database, self.data_sync)
        # Last of what can fail: it starts a process, which nothing must leave behind.
        self.judge = FileJudge(settings.judge_processes, starts_at_once=judges_soon)
        self.batch_creation = InstanceBatchCreationService(
            self.database, self.judge, chunk_rows=settings.batch_chunk_rows, connections=settings.import_connections
        )
        self.problems = ProblemFiles(self.database, self.uploads, self.judge)
        self.background_batches = BackgroundBatches(
            self.database, self.operation_engine, self.uploads, self.batch_creation, self.batch_deletion
        )
        self.operation_runner = OperationRunner(
            self.database, self.identities, self.operation_engine, self._handlers(), tell_owner
        )

    async def close(self) -> None:
        self.judge.close()
        await self.identities.close()
        await self.database.dispose()

    def _engine(self) -> OperationEngine:
        if self.database.is_sqlite:
            return LocalEngine(self.database, at_once=self.settings.worker_operations)
        return QueueEngine(self.settings, self.database)

    def _handlers(self) -> Mapping[OperationKind, OperationHandler]:
        settings = self.settings
        imports = ImportOperation(
            self.database,
            self.uploads,
            self.batch_creation,
            chunk_rows=settings.batch_chunk_rows,
            connections=_beside_requests(settings.import_connections),
        )
        deletion_connections = _beside_requests(settings.deletion_connections)
        deletions = DeletionOperation(self.database, plan, connections=deletion_connections)
        return {
            OperationKind.INSTANCE_IMPORT: imports,
            OperationKind.INSTANCE_DELETION: deletions,
            OperationKind.INSTANCE_SYNC: self._sync_operation(),
            OperationKind.CONNECTION_TEST: ConnectionTestOperation(
                self.database, self.connection_tests, self.connection_slots
            ),
        }

    def _sync_operation(self) -> SyncOperation:
        settings = self.settings
        reader = ServerReader(self.server_access, largest_tables=settings.sync_tables)
        instance_sync = InstanceSync(
            self.database, self.breaker, reader, statistics_days=settings.statistics_retention_days
        )
        return SyncOperation(self.database, instance_sync, self.connection_slots)


def _beside_requests(connections: int) -> int:
    """Half of what a batch that somebody waits for uses: each is a process of the database's that writes without a
    pause, beside those that requests are answered by, and nobody's priority but the database's own holds it back."""
    return max(1, connections // 2)
