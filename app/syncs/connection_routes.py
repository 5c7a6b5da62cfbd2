"""Connection tests, and how well an instance is known to be reached."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, status
from pydantic import SecretStr

from app.access.gate import narrow_to
from app.access.permissions import Permission
from app.access.routing import CallLimit, GuardedRoute, requires
from app.credentials.service import CredentialService
from app.credentials.sign_ins import SignIn
from app.database.request_sessions import ReadSession, WriteSession
from app.errors import problem_responses
from app.fields import ResourceId
from app.operations.schemas import Operation, accepted
from app.syncs.connection_schemas import BatchTest, ConnectionParameters, ConnectionStatus, ConnectionTest
from app.syncs.connection_tests import ConnectionTests

router = APIRouter(tags=["Connections"], route_class=GuardedRoute)


# `async` keeps it on the event loop: FastAPI hands a plain function to a thread.
async def _tests(request: Request) -> ConnectionTests:
    tests = request.app.state.connection_tests
    assert isinstance(tests, ConnectionTests)
    return tests


Tests = Annotated[ConnectionTests, Depends(_tests)]


@router.post(
    "/instances/{instance_id}/test-connection",
    summary="Test the connection to an instance",
    responses=problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.SYNC_RUN, limit=CallLimit.BATCH),
)
async def test_connection(tests: Tests, instance_id: ResourceId) -> ConnectionTest:
    """Signs in to the server and asks it one question. The answer is 200 whatever the server does: a failure is told
    with its kind and a hint. A disabled instance is tested too; 409 when it is deleted, 422 when it has no credential.
    """
    return ConnectionTest.of(await tests.test_instance(instance_id))


@router.post(
    "/connections/test",
    summary="Test a connection that is not saved",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.SYNC_RUN, limit=CallLimit.BATCH),
)
async def test_parameters(session: ReadSession, tests: Tests, body: ConnectionParameters) -> ConnectionTest:
    """Nothing of it is kept. With a stored credential it asks for the permission `credential:update` too: whoever names
    the server gets to see what the credential signs in with.
    """
    if body.credential_id is None:
        password = body.password
        sign_in = SignIn(body.username or "", SecretStr("") if password is None else password)
        return ConnectionTest.of(await tests.test(body.place(), sign_in))
    narrow_to(Permission.CREDENTIAL_UPDATE)
    credential = await CredentialService(session).get(body.credential_id)
    return ConnectionTest.of(await tests.test_with_credential(body.place(), credential.id))


@router.post(
    "/instances/batch-test-connections",
    summary="Test the connections to many instances",
    status_code=status.HTTP_202_ACCEPTED,
    response_model=Operation,
    responses=problem_responses(413, 503),
    openapi_extra=requires(Permission.SYNC_RUN, limit=CallLimit.BATCH),
)
async def test_connections(session: WriteSession, request: Request, tests: Tests, body: BatchTest) -> Response:
    """In the background: the operation has an item for each id, with the version and the round trip, or the failure."""
    ids = tuple(dict.fromkeys(body.instance_ids))
    return accepted(await tests.start(session, ids), request)


@router.get(
    "/instances/{instance_id}/connection-status",
    summary="See how well an instance is reached",
    responses=problem_responses(404, 503),
    openapi_extra=requires(Permission.INSTANCE_READ),
)
async def connection_status(tests: Tests, instance_id: ResourceId) -> ConnectionStatus:
    """By when a test or a sync was last signed in. Nobody is connected to for it."""
    return ConnectionStatus.model_validate(await tests.status(instance_id))
