"""What the network's errors mean, the same for whatever driver met them, and how a failure's words are cut."""

import ssl

from app.syncs.adapters.port import Target
from app.syncs.adapters.tls import tls_failure
from app.syncs.failures import FailureKind, ServerFailure

# A server's own words can be of any length; a record's error is for reading.
MESSAGE_CHARACTERS = 500


def in_words(text: str, target: Target) -> str:
    """One line, cut, and without the password, should a server say it back."""
    secret = target.password.get_secret_value()
    line = " ".join((text.replace(secret, "***") if secret else text).split())
    return line[:MESSAGE_CHARACTERS]


def network_failure(error: Exception, target: Target) -> ServerFailure:
    """Of an OSError (TLS and time limits are such too) or an EOFError."""
    place = f"{target.host}:{target.port}"
    match error:
        case ssl.SSLError() if not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return tls_failure(error, target)
        case TimeoutError():
            return timed_out(target, "to be connected to", target.connect_seconds)
        case ConnectionRefusedError():
            hint = "nothing listens there: look whether the server runs, and at its port"
            return ServerFailure(FailureKind.REFUSED, f"{place} refused the connection", hint)
        case ssl.SSLError() | ConnectionError() | EOFError():
            return closed(target)
    reason = in_words(getattr(error, "strerror", None) or type(error).__name__, target)
    return ServerFailure(FailureKind.REFUSED, f"{place}: {reason}", "look at the route and at firewalls on the way")


def closed(target: Target) -> ServerFailure:
    hint = "look at the server's log, and whether it is a server of this type that demands TLS or refuses this address"
    return ServerFailure(FailureKind.CLOSED, f"{target.host}:{target.port} closed the connection", hint)


def timed_out(target: Target, doing: str, seconds: float) -> ServerFailure:
    """`doing` completes "… took longer than 10 s"."""
    message = f"{target.host}:{target.port} took longer than {seconds:g} s {doing}"
    return ServerFailure(FailureKind.TIMED_OUT, message, "look whether it is busy, or a firewall drops what is sent")
