"""TLS to a registered server, the same for every driver: what is verified, and for which name.

The address that is connected to was resolved and judged before (`app.syncs.addresses`), but the certificate must be
the host's. Drivers pass what they connect to as the server's name, which here is an address; the context overrides it.

What each mode verifies follows libpq (https://www.postgresql.org/docs/current/libpq-ssl.html):

- `disable`: no TLS.
- `prefer`: nothing, even with a CA file: who would take no TLS at all gains nothing by verifying.
- `require`: nothing; with a CA file the certificate's chain, but no name, as libpq's `require` with a root CA.
- `verify-full`: the chain, to the CA file or else to the system's authorities, and the host's name or address.
"""

import asyncio
import ssl
from functools import lru_cache
from pathlib import Path
from socket import socket

from app.models.instance import TlsMode
from app.syncs.adapters.port import Target
from app.syncs.failures import FailureKind, ServerFailure

# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_NAME_MISMATCHES = frozenset({62, 64})
# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
_OUT_OF_DATE = frozenset({9, 10})


def client_context(target: Target) -> ssl.SSLContext | None:
    """For a connection to any of the target's addresses; None where there is to be no TLS.

    Checks and sends (SNI, unless it is an address) the name of `target.host`, whatever name the driver gives.
    Raises ServerFailure when the CA file cannot be used."""
    if target.tls_mode is TlsMode.DISABLE:
        return None
    context = _ContextForHost(ssl.PROTOCOL_TLS_CLIENT)
    context.stand_for(target.host, _verifying(target))
    return context


async def loaded_context(target: Target) -> ssl.SSLContext | None:
    """As client_context, without holding the event loop: to read the system's authorities takes 0.1 s, once."""
    if target.tls_mode is TlsMode.DISABLE:
        return None
    return await asyncio.to_thread(client_context, target)


def tls_failure(error: Exception, target: Target) -> ServerFailure:
    """What a failed handshake means, in words; for an `ssl.SSLError` of any driver."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ServerFailure(FailureKind.TLS, error.verify_message or str(error), _certificate_hint(error, target))
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    hint = "the TLS handshake failed: compare the server's TLS versions, ciphers and demand for client certificates"
    return ServerFailure(FailureKind.TLS, f"TLS handshake: {reason}", hint)


def _certificate_hint(error: ssl.SSLCertVerificationError, target: Target) -> str:
    if error.verify_code in _NAME_MISMATCHES:
        return f"the certificate is not for {target.host}: register a name that it holds, or issue one for this name"
    if error.verify_code in _OUT_OF_DATE:
        return "the server's certificate is not valid today: renew it, and compare both clocks"
    trusted = target.tls_ca_file.name if target.tls_ca_file else "the system's authorities"
    return f"the certificate is not signed by {trusted}: set the CA file that signed it"


class _ContextForHost(ssl.SSLContext):
    """Wraps connections with another context, which is shared, and for its own host.

    Loading the system's authorities takes 0.1 s, too long for each connection; so what verifies is made once. It has
    to be a context itself, because asyncio and uvloop look at its type."""

    _verifying: ssl.SSLContext
    _server_name: str

    def stand_for(self, host: str, verifying: ssl.SSLContext) -> None:
        # A zone is this machine's, and a trailing dot the resolver's: neither stands in a certificate.
        self._server_name = host.partition("%")[0].rstrip(".")
        self._verifying = verifying
        self.check_hostname = verifying.check_hostname
        self.verify_mode = verifying.verify_mode

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self._verifying.wrap_bio(incoming, outgoing, server_side, self._server_name, session)

    def wrap_socket(
        self,
        sock: socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        return self._verifying.wrap_socket(
            sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, self._server_name, session
        )


def _verifying(target: Target) -> ssl.SSLContext:
    ca_file = None if target.tls_mode is TlsMode.PREFER else target.tls_ca_file
    if ca_file is None:
        return _context(target.tls_mode, None, 0)
    try:
        return _context(target.tls_mode, ca_file, ca_file.stat().st_mtime_ns)
    except OSError as error:
        # SSLError is one too: the file is there, but holds no certificates.
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no certificates in PEM"
        message = f"the CA file {ca_file.name} cannot be used: {reason}"
        raise ServerFailure(FailureKind.TLS, message, "put the authorities' certificates there, in PEM") from error


@lru_cache(maxsize=64)
def _context(mode: TlsMode, ca_file: Path | None, _changed_ns: int) -> ssl.SSLContext:
    """Made again when the file has changed; the system's authorities are read once in the process's life."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode is TlsMode.VERIFY_FULL
    if ca_file is None and mode is not TlsMode.VERIFY_FULL:
        context.verify_mode = ssl.CERT_NONE
    elif ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca_file)
    return context
