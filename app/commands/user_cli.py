"""`muster user`: what it offers and how it is asked. What each command does is in `users`.

That is imported when it is run: what it needs takes four times as long to load as `muster import`.
"""

from typing import Annotated

import typer

from app.commands.exit_codes import reporting_failures

user_cli = typer.Typer(
    help="Make, change, disable and list users, in the configured database.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The user name.")]
FromStdinOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking for it.")
]
GenerateOption = Annotated[bool, typer.Option("--generate", help="Make a password, and show it this once.")]


@user_cli.command()
def create(
    name: NameArgument,
    role: Annotated[
        str | None, typer.Option(metavar="ROLE", help="The role to have: admin, operator, viewer or one of your own.")
    ] = None,
    space: Annotated[
        str | None, typer.Option(metavar="SPACE", help="Where to have it: the name of a space; by default everywhere.")
    ] = None,
    password_stdin: FromStdinOption = False,
    generate: GenerateOption = False,
) -> None:
    """Make a user.

    Asks for the password twice. It has 12 to 128 characters, whatever they are, and is not one that everybody guesses.
    """
    from app.commands import users  # noqa: PLC0415

    with reporting_failures():
        password = users.asked_password(from_stdin=password_stdin, generate=generate)
        users.create(name, role=role, space=space, password=password)


@user_cli.command()
def passwd(name: NameArgument, password_stdin: FromStdinOption = False, generate: GenerateOption = False) -> None:
    """Give a user a new password.

    Ends all sessions of the user's; API keys go on working. On SQLite a running server takes notice within 30 seconds.
    """
    from app.commands import users  # noqa: PLC0415

    with reporting_failures():
        users.set_password(name, users.asked_password(from_stdin=password_stdin, generate=generate))


@user_cli.command()
def disable(name: NameArgument) -> None:
    """Keep a user from signing in.

    Ends all sessions of the user's and stops the API keys; PATCH /api/v1/users/{user_id} can enable the user again. The
    last active administrator cannot be disabled. On SQLite a running server takes notice within 30 seconds.
    """
    from app.commands import users  # noqa: PLC0415

    with reporting_failures():
        users.disable(name)


@user_cli.command("list")
def show_users() -> None:
    """List the users with their roles."""
    from app.commands import users  # noqa: PLC0415

    with reporting_failures():
        users.show_users()
