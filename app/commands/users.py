"""`muster user`: makes and changes users in the configured database, for whoever sits at the server's own machine.

No server has to run, and one that runs takes notice: at once on PostgreSQL; on SQLite, where it hears of nothing that
other processes do, after as long as it keeps what it knows of callers.
"""

import getpass
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.identities import Identities
from app.commands.configuration import identities_of, on_database, prepared_settings, refusals, sqlite_file
from app.commands.exit_codes import CommandFailed
from app.commands.screen import result_console, show_table
from app.config import Settings
from app.database import Database
from app.database.transactions import run_in_transaction
from app.errors import NotFound, SpaceNotFound
from app.pagination import MAX_PAGE_ITEMS, PageRequest
from app.spaces.records import SpaceFilter, SpaceRecord
from app.spaces.service import SpaceService
from app.users.grant_records import GrantRecord
from app.users.grant_service import GrantService
from app.users.passwords import generate_password
from app.users.records import UserFilter, UserRecord, UserValues
from app.users.service import UserService
from app.users.sign_in_limit import lift_locks

# A password with its line break, in whatever characters.
MAX_INPUT_CHARACTERS = 1000

T = TypeVar("T")
ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Password:
    """`is_generated`: nobody knows it yet, so it has to be shown."""

    text: str
    is_generated: bool

    def show(self) -> None:
        if self.is_generated:
            typer.echo(f"password  {self.text}")


def create(name: str, *, role: str | None, space: str | None, password: Password) -> None:
    """Makes a user who holds the role in the space, or everywhere. Raises CommandFailed, and then nothing is made."""
    if space is not None and role is None:
        raise CommandFailed("--space says where a role is held; give --role too")
    values: UserValues = {"username": name, "password": password.text}
    user = _in_transaction(partial(_create, values, role, space))
    held = "no role" if role is None else f"the role {role} {'everywhere' if space is None else f'in {space}'}"
    typer.echo(f"user {user.username} was made and has {held}")
    password.show()


async def _create(
    values: UserValues, role: str | None, space: str | None, session: AsyncSession, identities: Identities
) -> UserRecord:
    user = await UserService(session, identities).create(values)
    if role is not None:
        grants = GrantService(session, identities)
        space_id = None if space is None else await _space_id(session, space)
        await grants.grant(user.id, (await grants.role_named(role)).id, space_id)
    return user


def set_password(name: str, password: Password) -> None:
    """Ends all sessions of the user's, and the locks after failures to sign in."""

    async def change(session: AsyncSession, identities: Identities) -> UserRecord:
        user = await _named(session, identities, name)
        await UserService(session, identities).set_password(user.id, password.text)
        await lift_locks(session, user.username)
        return user

    user = _in_transaction(change)
    typer.echo(f"user {user.username} has a new password; all sessions have ended")
    password.show()


def disable(name: str) -> None:
    """Ends all sessions of the user's; API keys are worth nothing while their owner is disabled."""

    async def change(session: AsyncSession, identities: Identities) -> UserRecord:
        user = await _named(session, identities, name)
        return await UserService(session, identities).update(user.id, {"is_active": False})

    user = _in_transaction(change)
    typer.echo(f"user {user.username} is disabled; all sessions have ended, and API keys do not work")


def show_users() -> None:
    """A table of all users, by name."""
    settings = _settings()
    rows = on_database(settings, _rows)
    show_table(result_console(as_json=False), ("user", "active", "roles", "last signed in"), rows)


async def _rows(database: Database) -> list[tuple[str, ...]]:
    async with database.readers() as session:
        users, grants = UserService(session, identities_of(database)), GrantService(session, identities_of(database))
        names = {space.id: space.name async for space in _spaces(session)}
        found = _everything(partial(users.page, UserFilter(), "username"))
        return [_row(user, await grants.of_user(user.id), names) async for user in found]


def _row(user: UserRecord, grants: Sequence[GrantRecord], space_names: Mapping[int, str]) -> tuple[str, ...]:
    held = [
        grant.role if grant.space_id is None else f"{grant.role} in {space_names.get(grant.space_id, grant.space_id)}"
        for grant in grants
    ]
    signed_in = "" if user.last_login_at is None else user.last_login_at.strftime("%Y-%m-%d %H:%M UTC")
    return user.username, "yes" if user.is_active else "no", ", ".join(held), signed_in


async def _space_id(session: AsyncSession, name: str) -> int:
    async for space in _spaces(session, name):
        if space.name == name:
            return space.id
    raise SpaceNotFound(f"there is no space named {name!r}")


def _spaces(session: AsyncSession, part_of_name: str | None = None) -> AsyncIterator[SpaceRecord]:
    return _everything(partial(SpaceService(session).page, SpaceFilter(part_of_name), "id"))


class _Page(Protocol[ItemT_co]):
    @property
    def items(self) -> Sequence[ItemT_co]: ...

    @property
    def next_cursor(self) -> str | None: ...


async def _everything(page: Callable[[PageRequest], Awaitable[_Page[ItemT]]]) -> AsyncIterator[ItemT]:
    """The items of all pages."""
    cursor: str | None = None
    while True:
        found = await page(PageRequest(MAX_PAGE_ITEMS, cursor, include_total=False))
        for item in found.items:
            yield item
        cursor = found.next_cursor
        if cursor is None:
            return


async def _named(session: AsyncSession, identities: Identities, name: str) -> UserRecord:
    user = await UserService(session, identities).find_by_name(name)
    if user is None:
        raise NotFound(f"there is no user {name!r}")
    return user


def _settings() -> Settings:
    settings = prepared_settings()
    sqlite_file(settings)
    return settings


def _in_transaction(work: Callable[[AsyncSession, Identities], Awaitable[T]]) -> T:
    async def run(database: Database) -> T:
        identities = identities_of(database)
        return await run_in_transaction(database.writers, lambda session: work(session, identities))

    settings = _settings()
    with refusals():
        return on_database(settings, run)


def asked_password(*, from_stdin: bool, generate: bool) -> Password:
    """The password as the options say; by default it is asked for twice, on a terminal, and not shown."""
    if from_stdin and generate:
        raise CommandFailed("give --password-stdin or --generate, not both")
    if generate:
        return Password(generate_password(), is_generated=True)
    return Password(_read() if from_stdin else _asked_twice(), is_generated=False)


def _read() -> str:
    """Standard input without its line break."""
    lines = sys.stdin.read(MAX_INPUT_CHARACTERS).splitlines()
    if len(lines) != 1:
        raise CommandFailed(f"standard input must hold the password and nothing else, not {len(lines)} lines")
    return lines[0]


def _asked_twice() -> str:
    if not sys.stdin.isatty():
        raise CommandFailed("there is no terminal to ask on; give --password-stdin or --generate")
    try:
        password = getpass.getpass("New password: ")
        again = getpass.getpass("The same again: ")
    except EOFError:
        raise KeyboardInterrupt from None
    if password != again:
        raise CommandFailed("the two are not the same; nothing was changed")
    return password
