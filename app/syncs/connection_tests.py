"""Tests connections: of registered instances, and of parameters that are not saved.

A test asks the server for its version and how long a question takes, and keeps when that last succeeded. It tries where
an endpoint was found unreachable a moment ago: whoever tests has maybe just repaired it. What it finds is everybody's.
"""

from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from app.credentials.sign_ins import SignIn
from app.database import Database
from app.database.transactions import run_beside_requests
from app.errors import Conflict, NotFound, ParameterError
from app.models.base import utc_now
from app.models.operation import OperationKind
from app.operations.engine import OperationEngine
from app.operations.records import OperationPlan, OperationRecord
from app.operations.service import OperationService
from app.syncs import endpoint_repository, repository
from app.syncs.adapters.port import ServerCheck, ServerSession
from app.syncs.breaker import CircuitBreaker, Endpoint
from app.syncs.connection_records import ConnectionReport, ConnectionStatus, OrderedTest, quality
from app.syncs.failures import ServerFailure
from app.syncs.instance_sync import MAX_VERSION_CHARACTERS
from app.syncs.outcomes import SyncError, storable
from app.syncs.records import SyncedInstance
from app.syncs.server_access import ServerAccess
from app.syncs.targets import ServerPlace

MAX_TESTED_IDS = 1_000


class ConnectionTests:
    """Opens its own transactions, but for `start`."""

    def __init__(
        self, database: Database, engine: OperationEngine, access: ServerAccess, breaker: CircuitBreaker
    ) -> None:
        self._database = database
        self._engine = engine
        self._access = access
        self._breaker = breaker

    async def test(self, place: ServerPlace, sign_in: SignIn) -> ConnectionReport:
        """Of a server that need not be registered; nothing is kept."""
        return await self._report(place, sign_in)

    async def test_with_credential(self, place: ServerPlace, credential_id: int) -> ConnectionReport:
        """The same, signed in with a stored credential. Raises NotFound when there is none."""
        sign_in = await self._access.sign_in_of(credential_id)
        return _failed(sign_in) if isinstance(sign_in, ServerFailure) else await self._report(place, sign_in)

    async def test_instance(self, instance_id: int) -> ConnectionReport:
        """Of a registered instance, disabled ones too. Raises NotFound, Conflict when it is deleted, ParameterError
        when it has no credential."""
        async with self._database.readers() as session:
            instance = await repository.find_instance(session, instance_id)
        if instance is None:
            raise NotFound(f"there is no instance {instance_id}")
        if instance.deleted_at is not None:
            raise Conflict(f"instance {instance_id} is deleted; restore it first")
        if instance.credential_id is None:
            message = f"instance {instance_id} has no credential to sign in with; set credential_id"
            error = {"pointer": "/body/credential_id", "code": "required", "message": message}
            raise ParameterError(message, members={"errors": [error]})
        return await self.try_out(instance)

    async def try_out(self, instance: SyncedInstance) -> ConnectionReport:
        """Of an instance that has a credential; what was found is kept."""
        sign_in = await self._access.sign_in_of(instance.credential_id)
        if isinstance(sign_in, ServerFailure):
            return _failed(sign_in)
        endpoint = Endpoint(instance.host, instance.port)
        admission = await self._breaker.admit(endpoint, is_forced=True)
        checked, failure = await self._check(instance.place, sign_in)
        await self._breaker.note(endpoint, admission, failure)
        if checked is None:
            assert failure is not None
            return _failed(failure)
        await self._keep(instance.id, checked)
        return ConnectionReport(checked)

    async def start(self, session: AsyncSession, instance_ids: tuple[int, ...]) -> OperationRecord:
        """Tests many in the background, each an item; in the caller's transaction."""
        request = OrderedTest(instance_ids).as_json()
        plan = OperationPlan(OperationKind.CONNECTION_TEST, request, uuid4(), len(instance_ids))
        return await OperationService(session, self._engine).start(plan)

    async def status(self, instance_id: int) -> ConnectionStatus:
        """How well the instance is known to be reached. Raises NotFound."""
        async with self._database.readers() as session:
            known = await repository.find_connection(session, instance_id)
            if known is None:
                raise NotFound(f"there is no instance {instance_id}")
            endpoint = await endpoint_repository.find(session, known.host, known.port)
        return ConnectionStatus(
            quality(known.last_connected_at, utc_now()),
            known.last_connected_at,
            known.version,
            None if endpoint is None else endpoint.unreachable_since,
        )

    async def _report(self, place: ServerPlace, sign_in: SignIn) -> ConnectionReport:
        checked, failure = await self._check(place, sign_in)
        return ConnectionReport(checked) if failure is None else _failed(failure)

    async def _check(self, place: ServerPlace, sign_in: SignIn) -> tuple[ServerCheck | None, ServerFailure | None]:
        """One of both."""
        found: list[ServerCheck] = []

        async def ask(server: ServerSession) -> None:
            checked = await server.check()
            version = storable(checked.version, MAX_VERSION_CHARACTERS)
            found.append(ServerCheck(version, checked.round_trip_seconds))

        failure = await self._access.ask(place, sign_in, ask)
        # One that answers, and only then cannot be left, was reached.
        return (found[0], None) if found else (None, failure)

    async def _keep(self, instance_id: int, checked: ServerCheck) -> None:
        async def keep(session: AsyncSession) -> None:
            await repository.note_connection(session, instance_id, checked.version, utc_now())

        await run_beside_requests(self._database, keep)


def _failed(failure: ServerFailure) -> ConnectionReport:
    return ConnectionReport(failure=SyncError.of(failure))
