"""`/operations/{operation_id}/problems.csv`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from app.access.permissions import Permission
from app.access.routing import GuardedRoute, requires
from app.csv_answers import CSV_RESPONSES, streamed
from app.errors import problem_responses
from app.fields import ResourceId
from app.instances.problems import ProblemFiles

router = APIRouter(prefix="/operations", tags=["Operations"], route_class=GuardedRoute)


# `async` keeps it on the event loop: FastAPI hands a plain function to a thread.
async def _problems(request: Request) -> ProblemFiles:
    problems = request.app.state.problems
    assert isinstance(problems, ProblemFiles)
    return problems


@router.get(
    "/{operation_id}/problems.csv",
    summary="Download what was not done",
    response_class=StreamingResponse,
    responses=CSV_RESPONSES | problem_responses(404, 409, 503),
    openapi_extra=requires(Permission.OPERATION_READ),
)
async def get_operation_problems(
    problems: Annotated[ProblemFiles, Depends(_problems)], operation_id: ResourceId
) -> StreamingResponse:
    """Of an import its invalid and failed rows as they came, with `_line`, `_column`, `_code` and `_message` of what is
    wrong; several errors of a row are joined by ` | `. Corrected, the file can be uploaded as it is: those columns are
    ignored, and rows that were applied already are recognised by their names.

    Of a deletion the instances that were blocked, failed or missing. Cells that a spreadsheet would run get a leading
    `'`, which an import removes; under a column's name that speaks of a secret stands `removed`. 409 once the upload
    was removed.
    """
    return await streamed(problems.pieces(operation_id), f"operation-{operation_id}-problems.csv")
