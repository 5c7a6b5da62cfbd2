"""The error tree, its numeric catalogue, and the one place where errors become HTTP answers.

    AppError
    ├── ParameterError 25000 (422)
    │   ├── InvalidCursor (400)
    │   └── BodyTooLarge (413)
    ├── DatabaseFailed 25010 (500)
    │   └── DatabaseUnavailable (503, Retry-After)
    ├── NotFound 25013 (404)
    ├── SpaceNotFound 25015 (404)
    ├── Conflict 25016 (409)
    ├── PreconditionFailed 25017 (412)
    ├── Blocked 25018 (409)
    ├── NotAuthenticated 25020 (401)
    ├── Forbidden 25020 (403)
    ├── TooManyRequests 25022 (429, Retry-After)
    ├── FileTypeNotAccepted 25100 (415)
    ├── FileUnparsable 25200 (422)
    ├── FileEmpty 25300 (422)
    └── Unexpected 25500 (500)
        └── StorageFull (507)

    ValueError
    └── FieldError: a rule refuses one value. Not an answer yet: the import makes it that row's outcome, a request body
        one entry of a ParameterError's `errors`.

Every answer that is not a success is `application/problem+json` (RFC 9457) with our members `code`, `request_id` and,
for bad input, `errors`. Services raise these; routes never catch them.
"""

import errno
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import orjson
import structlog
from asgi_correlation_id import correlation_id
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

log = structlog.get_logger(__name__)

type_prefix = "urn:muster:problem:"
MAX_ECHO_CHARACTERS = 200
RETRY_AFTER_SECONDS = 5

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]


class AppError(Exception):
    """An answer that is not a success. Subclasses fix the HTTP status and the stable code.

    `members` are further members of the problem document (such as `errors` or `blockers`).
    """

    status: ClassVar[int] = 500
    code: ClassVar[int] = 25500
    title: ClassVar[str] = "Unexpected error"

    def __init__(
        self,
        detail: str,
        *,
        members: Mapping[str, JsonValue] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = dict(members or {})
        self.headers = dict(headers or {})


class ParameterError(AppError):
    status, code, title = 422, 25000, "Parameter error"


class InvalidCursor(ParameterError):
    status = 400


class BodyTooLarge(ParameterError):
    status = 413


class DatabaseFailed(AppError):
    status, code, title = 500, 25010, "Database execution error"


class DatabaseUnavailable(DatabaseFailed):
    status = 503

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class NotFound(AppError):
    status, code, title = 404, 25013, "Not found"


class SpaceNotFound(AppError):
    status, code, title = 404, 25015, "Space not found"


class Conflict(AppError):
    status, code, title = 409, 25016, "Conflict"


class PreconditionFailed(AppError):
    status, code, title = 412, 25017, "Precondition failed"


class Blocked(AppError):
    status, code, title = 409, 25018, "Blocked"


class NotAuthenticated(AppError):
    """Nobody has signed in, or with something that is worth nothing (any more)."""

    status, code, title = 401, 25020, "Not authenticated"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(AppError):
    status, code, title = 403, 25020, "No authority"


class TooManyRequests(AppError):
    status, code, title = 429, 25022, "Too many requests"

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class FileTypeNotAccepted(AppError):
    status, code, title = 415, 25100, "File type not accepted"


class FileUnparsable(AppError):
    status, code, title = 422, 25200, "File cannot be parsed"


class FileEmpty(AppError):
    status, code, title = 422, 25300, "File is empty"


class Unexpected(AppError):
    pass


class StorageFull(Unexpected):
    status, title = 507, "Insufficient storage"


class FieldError(ValueError):
    """A value that a rule refuses; `code` is one of the contract's row error codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def cut(value: str) -> str:
    """What of a value may be echoed in an error: its first 200 characters, of which UTF-8 can hold every one."""
    shown = value if len(value) <= MAX_ECHO_CHARACTERS else value[:MAX_ECHO_CHARACTERS] + "…"
    return shown.encode("utf-8", "replace").decode()


class InputProblem(BaseModel):
    """One value that was not accepted: `pointer` (RFC 6901) into the request, or `column` and `line` of a file."""

    pointer: str | None = None
    column: str | None = None
    line: int | None = None
    code: str
    message: str
    value: str | None = Field(None, description="The value as it came, at most 200 characters; never a secret")


class Problem(BaseModel):
    """RFC 9457 problem details: the body of every answer that is not a success."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:muster:problem:not-found",
                "title": "Not found",
                "status": 404,
                "detail": "there is no tag 17",
                "instance": "/api/v1/tags/17",
                "code": 25013,
                "request_id": "3f0a9c1de8b24b6f9a0f5d7a41c2be90",
            }
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str = Field(description="Path of the request")
    code: int = Field(description="Number from the error catalogue")
    request_id: str | None = Field(description="The X-Request-ID, under which the log has more")
    errors: list[InputProblem] | None = Field(None, description="For bad input: every value that was not accepted")


PROBLEM_MEDIA_TYPE = "application/problem+json"
_problem_content = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_meaning_by_status = {
    400: "The cursor is not one of ours, or belongs to another sort (25000)",
    401: "Not signed in, or with a token or key that is worth nothing (25020)",
    403: "The permission that this call needs is missing (25020)",
    404: "Not found (25013), or no such space (25015)",
    409: "Conflict: name or endpoint taken, or the state does not allow it (25016, 25018)",
    412: "Precondition failed: the ETag or the plan token is stale (25017)",
    413: "The body is too large (25000)",
    415: "The file's type is not accepted (25100)",
    422: "A value is not accepted (25000), or the file cannot be judged (25200, 25300)",
    429: "Too many requests; try again after Retry-After seconds (25022)",
    503: "The database is not available; try again after Retry-After seconds (25010)",
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses=`: the problems it answers with beside 422, which every route documents anyhow."""
    return {status: _documented(_meaning_by_status[status]) for status in sorted({*statuses, 422})}


def _documented(description: str) -> dict[str, Any]:
    return {"description": description, "content": _problem_content}


def problem_response(error: AppError, request: Request) -> Response:
    document = {
        "type": type_prefix + error.title.lower().replace(" ", "-"),
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": request.url.path,
        "code": error.code,
        "request_id": correlation_id.get(),
        **error.members,
    }
    return Response(
        orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS),
        status_code=error.status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers=error.headers,
    )


def _pointer(location: Sequence[str | int]) -> str:
    """RFC 6901 pointer of a pydantic location; the first part says body, query, path or header."""
    return "/" + "/".join(cut(str(part)).replace("~", "~0").replace("/", "~1") for part in location)


_is_secret = re.compile("password|secret|token|key", re.IGNORECASE)


def _echo(kind: str, location: Sequence[str | int], value: object) -> str | None:
    """The offending value, when it can be shown: never a secret, nor what was sent under a name that we do not know."""
    # A body that is no object at all has no names: whatever it holds may be a secret.
    is_unnamed = kind == "extra_forbidden" or tuple(location) == ("body",)
    if is_unnamed or any(_is_secret.search(str(part)) for part in location):
        return None
    return cut(str(value)) if isinstance(value, str | int | float) else None


def _validation_error(error: RequestValidationError) -> AppError:
    errors: list[JsonValue] = []
    for each in error.errors():
        entry = {"pointer": _pointer(each["loc"]), **_reason(each)}
        value = _echo(each["type"], each["loc"], each.get("input"))
        if value is not None:
            entry["value"] = value
        errors.append(entry)
    count = len(errors)
    return ParameterError(f"{count} value{'s' if count > 1 else ''} not accepted", members={"errors": errors})


def _reason(error: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Code and message: those of our own rule where one refused the value, else pydantic's."""
    refusal = error.get("ctx", {}).get("error")
    if isinstance(refusal, FieldError):
        return {"code": refusal.code, "message": refusal.message}
    return {"code": error["type"], "message": error["msg"]}


_by_status: dict[int, type[AppError]] = {
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: BodyTooLarge,
    415: FileTypeNotAccepted,
}


def _http_error(error: HTTPException) -> AppError:
    kind = _by_status.get(error.status_code)
    if kind is None:
        # 405, 406 and whatever else the framework refuses: the caller's doing, so a parameter error with that status.
        kind = type("HttpError", (ParameterError,), {"status": error.status_code})
    return kind(str(error.detail), headers=error.headers)


def database_error(error: SQLAlchemyError) -> AppError:
    """507 when the disk is full, 503 when another try can help (no connection, pool exhausted), else 500. Nothing of
    the statement is told."""
    if is_storage_full(error):
        return storage_full()
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable("every database connection is in use; try again")
    if isinstance(error, DBAPIError) and is_unavailable(error):
        return DatabaseUnavailable("the database cannot be reached; try again")
    if getattr(getattr(error, "orig", None), "sqlstate", None) in _contended_states:
        return DatabaseUnavailable("another change was in the way and nothing was written; try again")
    return DatabaseFailed("the database refused the statement; the log has the reason under this request id")


# SQLSTATE classes and codes after which the same call can succeed: connection exceptions (08), resources (53),
# operator intervention (57P..: shutting down, starting up). https://www.postgresql.org/docs/current/errcodes-appendix.html
_unavailable_states = ("08", "53", "57P")
# Deadlock, serialization failure, lock not available.
_contended_states = frozenset({"40P01", "40001", "55P03"})


def is_unavailable(error: DBAPIError) -> bool:
    """Whether the database was not there (or not yet, or too busy), rather than unwilling."""
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None) or ""
    if state.startswith(_unavailable_states):
        return True
    return state == "" and ("database is locked" in str(error.orig) or "connection" in str(error.orig).lower())


def is_storage_full(error: BaseException | None) -> bool:
    """Whether a disk is full, or a quota used up: of files, of the temporary ones that bodies are kept in while they
    are read, or of the database."""
    match error:
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return True
        case HTTPException():
            # The framework says 400 of whatever happens while it reads a body.
            return is_storage_full(error.__cause__)
        case DBAPIError():
            state, name = (getattr(error.orig, attribute, None) for attribute in ("sqlstate", "sqlite_errorname"))
            return state in _full_states or name in _full_names
    return False


# disk_full. https://www.postgresql.org/docs/current/errcodes-appendix.html
_full_states = frozenset({"53100"})
# The second when it is the index of the write-ahead log that cannot grow. https://www.sqlite.org/rescode.html
_full_names = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"})


def storage_full() -> StorageFull:
    return StorageFull("the server has no space left for this; nothing of it was kept")


async def answer_to(request: Request, error: Exception) -> Response:
    """The problem that stands for the error; what is not the caller's doing is logged."""
    match error:
        case AppError():
            known = error
        case RequestValidationError():
            known = _validation_error(error)
        case _ if is_storage_full(error):
            log.error("no space left", path=request.url.path)
            known = storage_full()
        case HTTPException():
            known = _http_error(error)
        case SQLAlchemyError():
            log.error("database error", error=str(getattr(error, "orig", error)), path=request.url.path)
            known = database_error(error)
        case OSError() | TimeoutError():
            log.error("connection error", error=repr(error), path=request.url.path)
            known = DatabaseUnavailable("the database cannot be reached; try again")
        case _:
            log.error("unexpected error", path=request.url.path, exc_info=error)
            known = Unexpected(f"unexpected error; the log has it under request id {correlation_id.get()}")
    return problem_response(known, request)


def install_error_handlers(app: FastAPI) -> None:
    for kind in (AppError, RequestValidationError, HTTPException, SQLAlchemyError, OSError, Exception):
        app.add_exception_handler(kind, answer_to)
    app.openapi = _with_problems(app.openapi)  # type: ignore[method-assign]


def _with_problems(openapi: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Documents the error bodies as they are: FastAPI would document its own 422, and plain JSON for every other."""

    def documented() -> dict[str, Any]:
        document = openapi()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if "Problem" in schemas:
            return document
        for model in (InputProblem, Problem):
            schemas[model.__name__] = _schema(model)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for path in document["paths"].values():
            for operation in path.values():
                _document_problems(operation["responses"], is_guarded="x-permission" in operation)
        return document

    return documented


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return schema


def _document_problems(responses: dict[str, Any], *, is_guarded: bool) -> None:
    for status in (401, 403, 429) if is_guarded else ():
        responses.setdefault(str(status), _documented(_meaning_by_status[status]))
    if PROBLEM_MEDIA_TYPE not in responses.get("422", _documented(""))["content"]:
        responses["422"] = _documented(_meaning_by_status[422])
    responses.setdefault("default", _documented("Any other problem"))
