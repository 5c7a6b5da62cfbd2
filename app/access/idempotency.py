"""`Idempotency-Key`: a POST that is sent again is not done again, and gets the answer that it would have got.

1. A transaction of its own claims the key for this attempt, for ten minutes, which are renewed while the work goes on.
   Or it finds an answer, which is sent again; another payload under the key (422); or an attempt under way (409).
2. The work is done. Where it is one transaction, the request's session, the answer is kept in that same transaction:
   either both are there after a crash, or neither. Where it is many (batches), the answer is kept right after.
3. What was not done (5xx, refused for who is calling, for how often, or for a body that cannot be read) leaves the key
   free. After a crash it is free once the ten minutes have passed; whoever takes it over then makes it worthless for
   the attempt before, whose transaction is rolled back when it comes to keep its answer.

Answers that hold secrets are never kept: sign-in, tokens and API keys know no such header.
"""

import hmac
import re
from collections.abc import Awaitable, Callable
from types import TracebackType
from uuid import uuid4

import structlog
from fastapi import Request, Response
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.idempotency_repository import Claim, StoredAnswer
from app.access.idempotency_store import IdempotencyStore
from app.access.payload import fingerprint
from app.access.stored_answers import as_response, as_stored
from app.access.tokens import KEY_FILE_NAME
from app.caller import current_user_id
from app.config import Settings
from app.database.request_sessions import open_write_session
from app.errors import AppError, Conflict, ParameterError, problem_response
from app.key_file import configured_or_made

log = structlog.get_logger(__name__)

HEADER = "Idempotency-Key"
_key_form = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")
# Their answers hold secrets.
_never_kept = re.compile(r"/api/v1/(auth|api-keys)(/|$)")
# Not an answer to the question: the same question gets another one when it is asked by another caller, or later.
_not_an_answer = {401, 403, 408, 429}
# FastAPI's, entered before a request's function-scoped dependencies and left after them.
_REQUEST_STACK = "fastapi_inner_astack"

Handler = Callable[[Request], Awaitable[Response]]


class IdempotentCalls:
    def __init__(self, store: IdempotencyStore, secret: bytes) -> None:
        self._store = store
        self._secret = secret

    async def answer(self, request: Request, handle: Handler) -> Response:
        """What `handle` answers to this POST of an identified caller, or what it answered before."""
        key = _key_of(request)
        user_id = current_user_id()
        if key is None or user_id is None or is_never_kept(request.url.path):
            return await handle(request)
        request_stack = request.scope[_REQUEST_STACK]
        # The body is read here, and nobody else would remove its files when the route is not reached.
        request_stack.push_async_callback(request.close)
        claim = Claim(user_id, key, await fingerprint(request, self._secret), uuid4().hex)
        known = await self._store.claim(claim)
        if known is not None:
            return await as_response(known)
        attempt = Attempt(self._store, claim, request)
        request.state.idempotent_attempt = attempt
        request_stack.push_async_exit(attempt.end)
        async with self._store.renewing(claim):
            response = await handle(request)
            await attempt.keep(response)
        return response


class Attempt:
    """One attempt at what a key stands for."""

    def __init__(self, store: IdempotencyStore, claim: Claim, request: Request) -> None:
        self._store = store
        self._claim = claim
        self._request = request
        self._is_kept = False

    async def keep(self, response: Response) -> None:
        """Keeps the answer. Raises Conflict when another attempt has taken over, which undoes an open transaction."""
        if self._is_kept or not _is_answer(response.status_code):
            return
        answer = await as_stored(response)
        session = open_write_session(self._request)
        if session is None:
            await self._keep_after(answer)
        else:
            await self._keep_within(session, answer)

    async def keep_within(self, session: AsyncSession, response: Response) -> None:
        """Keeps the answer in a transaction of the route's own. Raises Conflict when another attempt has taken over."""
        await self._keep_within(session, await as_stored(response))

    async def end(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """The request's transaction has ended; what it has not kept is kept now, or the key is free again."""
        if error is None and self._is_kept:
            return
        if isinstance(error, AppError) and _is_answer(error.status):
            await self._keep_after(await as_stored(problem_response(error, self._request)))
        else:
            await self._logged(self._store.release(self._claim))

    async def _keep_within(self, session: AsyncSession, answer: StoredAnswer) -> None:
        self._is_kept = await self._store.complete_within(session, self._claim, answer)
        if not self._is_kept:
            raise Conflict(f"another attempt under this {HEADER} has taken over; nothing was done by this one")

    async def _keep_after(self, answer: StoredAnswer) -> None:
        await self._logged(self._store.complete(self._claim, answer))
        self._is_kept = True

    async def _logged(self, work: Awaitable[object]) -> None:
        """What was done is done: its answer must not be lost because it could not be kept."""
        try:
            await work
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            log.warning("the outcome of an idempotent call could not be kept", error=repr(error))


async def keep_answer_within(session: AsyncSession, request: Request, response: Response) -> None:
    """For a route that opens its one transaction itself: its answer is kept in it, when the caller gave a key.

    Raises Conflict when another attempt has taken over. The transaction must be committed afterwards, or this raised.
    """
    attempt = getattr(request.state, "idempotent_attempt", None)
    if isinstance(attempt, Attempt):
        await attempt.keep_within(session, response)


def open_fingerprint_key(settings: Settings) -> bytes:
    """Made from the key of the access tokens, which every process of an installation has. Raises KeyRefused."""
    key = configured_or_made(settings.token_key, "MUSTER_TOKEN_KEY", settings.data_dir / KEY_FILE_NAME)
    return hmac.digest(key, b"fingerprints of idempotent calls", "sha256")


def is_never_kept(path: str) -> bool:
    return _never_kept.search(path) is not None


def _is_answer(status: int) -> bool:
    return 200 <= status < 500 and status not in _not_an_answer


def _key_of(request: Request) -> str | None:
    """Raises ParameterError for one that is none."""
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    if len(given) > 1 or not _key_form.fullmatch(given[0]):
        message = f"{HEADER} must be one value of 1 to 255 printable ASCII characters"
        error = {"pointer": f"/header/{HEADER}", "code": "invalid_format", "message": message}
        raise ParameterError(message, members={"errors": [error]})
    return given[0]
