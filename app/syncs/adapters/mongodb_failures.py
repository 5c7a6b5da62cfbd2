"""What MongoDB's errors mean. Codes are from https://www.mongodb.com/docs/manual/reference/error-codes/"""

import bson.errors
from pymongo import errors

from app.syncs.adapters.network_failures import closed, in_words, network_failure, timed_out
from app.syncs.adapters.port import Target
from app.syncs.failures import FailureKind, ServerFailure

_GRANTS = "grant the role that docs/syncs/mongodb.md makes"
_SIGN_IN = (
    "look at the credential, and at the instance's database: it is where the user was made (admin if none is set)"
)

_KIND_BY_CODE = {
    11: (FailureKind.SIGN_IN_REFUSED, _SIGN_IN),
    13: (FailureKind.PERMISSION_MISSING, _GRANTS),
    18: (FailureKind.SIGN_IN_REFUSED, _SIGN_IN),
    33: (FailureKind.PERMISSION_MISSING, _GRANTS),
    50: (FailureKind.TIMED_OUT, "the server gave the command up at its time limit: look whether it is busy"),
    91: (FailureKind.CLOSED, "the server is shutting down"),
    334: (FailureKind.SIGN_IN_REFUSED, "the server has no mechanism that the user may use: SCRAM is needed"),
    8000: (FailureKind.SIGN_IN_REFUSED, _SIGN_IN),
    11600: (FailureKind.CLOSED, "the server is shutting down"),
    11602: (FailureKind.SERVER_ERROR, "the server is changing its place in the replica set: try again"),
    13436: (FailureKind.SERVER_ERROR, "the member is recovering: try again when it is a secondary"),
}


def driver_failure(error: Exception, target: Target) -> ServerFailure:
    """Of whatever the driver raised, in connecting or in asking."""
    match error:
        case ServerFailure():
            return error
        case errors.PyMongoError():
            return _driver_s_own(error, target)
        case OSError() | EOFError():
            return network_failure(error, target)
    return _strange(error, target)


def _driver_s_own(error: errors.PyMongoError, target: Target) -> ServerFailure:
    match error:
        case errors.ExecutionTimeout() | errors.NetworkTimeout() | errors.WTimeoutError():
            return timed_out(target, "to answer", target.statement_seconds)
        case errors.OperationFailure():
            return server_failure(error.code or 0, str((error.details or {}).get("errmsg") or error), target)
        case errors.ConfigurationError():
            # What the server told of itself does not suit the driver: too old, or an option of it is not supported.
            return ServerFailure(
                FailureKind.SERVER_ERROR, in_words(str(error), target), "MongoDB 4.2 or later is needed"
            )
        case errors.ServerSelectionTimeoutError():
            return timed_out(target, "to say what it is", target.connect_seconds)
        case errors.ConnectionFailure():
            return _lost(error, target)
    return _strange(error, target)


def server_failure(code: int, text: str, target: Target) -> ServerFailure:
    kind, hint = _KIND_BY_CODE.get(code, (FailureKind.SERVER_ERROR, "look the code up in MongoDB's error codes"))
    return ServerFailure(kind, in_words(text, target), hint, str(code) if code else None)


def _lost(error: errors.ConnectionFailure, target: Target) -> ServerFailure:
    cause = error.__cause__
    if isinstance(cause, bson.errors.BSONError | errors.ProtocolError):
        return _strange(cause, target)
    if isinstance(cause, OSError):
        return network_failure(cause, target)
    # Of a handshake the driver keeps the words only.
    text = in_words(str(error), target)
    if "[SSL" in text:
        return ServerFailure(
            FailureKind.TLS, text, f"look at the server's certificate, which must be for {target.host}"
        )
    return closed(target)


def _strange(error: Exception, target: Target) -> ServerFailure:
    return ServerFailure(
        FailureKind.PROTOCOL,
        f"{target.host}:{target.port} does not answer as MongoDB does ({type(error).__name__})",
        "look whether the port is the one that mongod or mongos listens on",
    )
