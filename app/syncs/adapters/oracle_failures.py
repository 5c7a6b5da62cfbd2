"""What the errors of Oracle Database and of its driver mean: https://docs.oracle.com/en/error-help/db/ and
https://python-oracledb.readthedocs.io/en/latest/user_guide/exception_handling.html"""

import re

import oracledb

from app.syncs.adapters.network_failures import closed, in_words, network_failure, timed_out
from app.syncs.adapters.port import Target
from app.syncs.failures import FailureKind, ServerFailure

_SERVICE = "register the service's name as the database: lsnrctl services lists those that the listener knows"
_GRANTS = "grant what docs/syncs/oracle.md lists: CREATE SESSION and SELECT ANY DICTIONARY"
_NOT_OPEN = "the database is starting, stopping or mounted only: open it, or wait"
_LISTENER = "look at the listener: lsnrctl status"

_KIND_BY_CODE = {
    "ORA-01017": (FailureKind.SIGN_IN_REFUSED, "look at the credential's user name and password"),
    "ORA-01005": (FailureKind.SIGN_IN_REFUSED, "the credential has no password"),
    "ORA-28000": (FailureKind.SIGN_IN_REFUSED, "the account is locked: ALTER USER … ACCOUNT UNLOCK"),
    "ORA-28001": (FailureKind.SIGN_IN_REFUSED, "the password has expired: ALTER USER … IDENTIFIED BY …"),
    "ORA-28009": (FailureKind.SIGN_IN_REFUSED, "SYS signs in as SYSDBA only: use another account"),
    "ORA-01045": (FailureKind.PERMISSION_MISSING, "GRANT CREATE SESSION to the account"),
    "ORA-00942": (FailureKind.PERMISSION_MISSING, _GRANTS),
    "ORA-01031": (FailureKind.PERMISSION_MISSING, _GRANTS),
    "ORA-41900": (FailureKind.PERMISSION_MISSING, _GRANTS),
    "ORA-12504": (FailureKind.DATABASE_MISSING, _SERVICE),
    "ORA-12505": (FailureKind.DATABASE_MISSING, _SERVICE),
    "ORA-12514": (FailureKind.DATABASE_MISSING, _SERVICE),
    "DPY-6001": (FailureKind.DATABASE_MISSING, _SERVICE),
    "DPY-6003": (FailureKind.DATABASE_MISSING, _SERVICE),
    "ORA-12541": (FailureKind.REFUSED, _LISTENER),
    "ORA-12516": (FailureKind.SERVER_ERROR, "no process is free for the connection: look at the parameter processes"),
    "ORA-12519": (FailureKind.SERVER_ERROR, "no process is free for the connection: look at the parameter processes"),
    "ORA-12520": (FailureKind.SERVER_ERROR, "no process is free for the connection: look at the parameter processes"),
    "ORA-12526": (FailureKind.SERVER_ERROR, "the instance is in restricted mode"),
    "ORA-12528": (FailureKind.SERVER_ERROR, _NOT_OPEN),
    "ORA-00018": (FailureKind.SERVER_ERROR, "all sessions are taken: look at the parameter sessions"),
    "ORA-00020": (FailureKind.SERVER_ERROR, "all processes are taken: look at the parameter processes"),
    "ORA-02391": (FailureKind.SERVER_ERROR, "the account's profile allows no more sessions (SESSIONS_PER_USER)"),
    "ORA-01033": (FailureKind.SERVER_ERROR, _NOT_OPEN),
    "ORA-01034": (FailureKind.SERVER_ERROR, _NOT_OPEN),
    "ORA-01089": (FailureKind.SERVER_ERROR, _NOT_OPEN),
    "ORA-01109": (FailureKind.SERVER_ERROR, _NOT_OPEN),
    "ORA-01219": (FailureKind.SERVER_ERROR, _NOT_OPEN),
    "DPY-3001": (FailureKind.SERVER_ERROR, "the server demands Oracle's native network encryption: offer TCPS instead"),
    "DPY-3010": (FailureKind.SERVER_ERROR, "the server is older than 12.1"),
    "DPY-3015": (FailureKind.SIGN_IN_REFUSED, "the account has a 10G password verifier only: set its password again"),
}
_TIMED_OUT = frozenset({"DPY-4024", "ORA-12170", "ORA-03136"})
_CLOSED = frozenset({"DPY-4011", "DPY-1001", "ORA-03113", "ORA-03114", "ORA-00028", "ORA-02396"})
# The driver read what it did not expect.
_PROTOCOL_PREFIX = "DPY-5"
_code_in_words = re.compile(r"\b(?:ORA|TNS)-(\d{5})\b")


def driver_failure(error: Exception, target: Target) -> ServerFailure:
    """Of whatever the driver raised, in connecting or in asking."""
    match error:
        case ServerFailure():
            return error
        case oracledb.Error():
            return _database_failure(error, target)
        case OSError() | EOFError():
            return network_failure(error, target)
    return _strange(error, target)


def _database_failure(error: oracledb.Error, target: Target) -> ServerFailure:
    code, message = _told(error)
    if code == "DPY-6005" and isinstance(error.__cause__, Exception):
        return driver_failure(error.__cause__, target)
    if code in _TIMED_OUT:
        return timed_out(target, "to answer", target.statement_seconds)
    if code in _CLOSED:
        return closed(target)
    if code.startswith(_PROTOCOL_PREFIX):
        return _strange(error, target)
    kind, hint = _KIND_BY_CODE.get(code, (FailureKind.SERVER_ERROR, "look the code up in Oracle's error help"))
    return ServerFailure(kind, in_words(message, target), hint, code or None)


def _told(error: oracledb.Error) -> tuple[str, str]:
    """The code is the server's own where the driver's message holds one, as for a listener's refusal."""
    told = error.args[0] if error.args else error
    code, message = str(getattr(told, "full_code", "")), str(getattr(told, "message", told))
    server_s = _code_in_words.search(message)
    if code == "DPY-6000" and server_s:
        code = f"ORA-{server_s[1]}"
    return code, message.partition("\nHelp:")[0]


def _strange(error: Exception, target: Target) -> ServerFailure:
    return ServerFailure(
        FailureKind.PROTOCOL,
        f"{target.host}:{target.port} does not answer as Oracle's listener does ({type(error).__name__})",
        "look whether the port is the listener's",
    )
