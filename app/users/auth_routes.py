"""`/auth`: signing in and out, and what concerns oneself."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response, status

from app.access.dependencies import CurrentIdentities
from app.access.rate_limits import limit_sign_in
from app.access.routing import CallLimit, GuardedRoute, public, signed_in
from app.caller import current_call, signed_in_user_id
from app.database.request_sessions import ReadSession
from app.errors import problem_responses
from app.users.auth_schemas import Me, PasswordChange, PermissionsInSpace, RefreshRequest, SignInForm, Tokens
from app.users.grant_schemas import HeldRole
from app.users.own_password import OwnPasswordService
from app.users.records import IssuedTokens
from app.users.service import UserService
from app.users.sessions import SessionService
from app.users.sign_in import SignInService

router = APIRouter(prefix="/auth", tags=["Sign-in"], route_class=GuardedRoute)


async def _sign_in(request: Request) -> SignInService:
    service = request.app.state.sign_in
    assert isinstance(service, SignInService)
    return service


async def _sessions(request: Request) -> SessionService:
    service = request.app.state.sessions
    assert isinstance(service, SessionService)
    return service


async def _own_password(request: Request) -> OwnPasswordService:
    service = request.app.state.own_password
    assert isinstance(service, OwnPasswordService)
    return service


@router.post(
    "/login",
    summary="Sign in",
    responses=problem_responses(401, 429, 503),
    openapi_extra=public("nobody is signed in before signing in", limit=CallLimit.SIGN_IN),
)
async def login(
    request: Request,
    response: Response,
    form: Annotated[SignInForm, Form()],
    sign_in: Annotated[SignInService, Depends(_sign_in)],
) -> Tokens:
    """The answer to a wrong password is the same whether or not there is such a user. After 5 failures within 15
    minutes, this account is locked for your address for 15 minutes (429)."""
    await limit_sign_in(request, form.username)
    return _tokens(response, await sign_in.sign_in(form.username, form.password.get_secret_value()))


@router.post(
    "/refresh",
    summary="Exchange a refresh token",
    responses=problem_responses(401, 503),
    openapi_extra=public("the refresh token tells who is calling"),
)
async def refresh(
    response: Response, body: RefreshRequest, sessions: Annotated[SessionService, Depends(_sessions)]
) -> Tokens:
    """Each refresh token can be exchanged once. Exchanging one again ends its whole session, for whoever else has
    tokens of it; so do two exchanges of one token at the same time."""
    return _tokens(response, await sessions.refresh(body.refresh_token.get_secret_value()))


@router.post(
    "/logout",
    summary="Sign out",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(503),
    openapi_extra=signed_in(),
)
async def logout(sessions: Annotated[SessionService, Depends(_sessions)]) -> None:
    """Ends this session: its tokens are worth nothing from now on. An API key has none, which is a 403."""
    await sessions.end_current()


@router.get("/me", summary="Who am I", responses=problem_responses(404, 503), openapi_extra=signed_in())
async def me(session: ReadSession, identities: CurrentIdentities) -> Me:
    profile = await UserService(session, identities).profile(signed_in_user_id())
    caller = current_call().caller
    return Me(
        id=profile.user.id,
        username=profile.user.username,
        email=profile.user.email,
        display_name=profile.user.display_name,
        roles=[HeldRole.model_validate(each) for each in profile.roles],
        permissions=_permissions_by_space(),
        api_key_prefix=None if caller is None else caller.api_key_prefix,
    )


@router.post(
    "/password",
    summary="Change your password",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(409, 503),
    openapi_extra=signed_in(),
)
async def change_password(
    body: PasswordChange, own_password: Annotated[OwnPasswordService, Depends(_own_password)]
) -> None:
    """Ends all your other sessions; API keys stay. Not with an API key, which is a 403."""
    await own_password.change(body.current_password.get_secret_value(), body.new_password.get_secret_value())


def _tokens(response: Response, issued: IssuedTokens) -> Tokens:
    response.headers["Cache-Control"] = "no-store"
    return Tokens.model_validate(issued)


def _permissions_by_space() -> list[PermissionsInSpace]:
    """What holds everywhere first."""
    by_space: dict[int | None, list[str]] = {}
    for permission, spaces in sorted(current_call().rights.items()):
        for space_id in [None] if spaces is None else spaces:
            by_space.setdefault(space_id, []).append(permission)
    return [
        PermissionsInSpace(space_id=space_id, permissions=by_space[space_id])
        for space_id in sorted(by_space, key=lambda space_id: space_id or 0)
    ]
