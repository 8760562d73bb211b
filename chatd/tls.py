"""TLS for the public port: a certificate and its key from PEM files, TLS 1.2 or newer."""

from __future__ import annotations

import ssl
from pathlib import Path


class TlsUnusable(Exception):
    """The certificate or the key cannot be used. The text is one line: field, value, rule, remedy."""


def server_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """A context for a server.

    Args:
        cert: PEM file of the certificate and the chain above it.
        key: PEM file of the private key; None: it is in ``cert`` too.
    Raises:
        TlsUnusable: a file is missing or wrong, or the key is not the certificate's.
    """
    for field, path in (("tls_cert", cert), ("tls_key", key)):
        if path is not None:
            try:
                path.read_bytes()
            except OSError as bad:
                raise TlsUnusable(
                    f"{field} is {str(path)!r}: cannot be read: {bad.strerror}; name a file in PEM format"
                ) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    where = f"tls_key is {str(key or cert)!r}"
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except _Encrypted:
        raise TlsUnusable(f"{where}: is encrypted: must be a key without a pass phrase") from None
    except ssl.SSLError as bad:
        if bad.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise TlsUnusable(
                f"{where}: does not belong to tls_cert {str(cert)!r}: must be its key"
            ) from None
        if not _holds_certificate(cert):
            raise TlsUnusable(f"tls_cert is {str(cert)!r}: must be a certificate in PEM format") from None
        raise TlsUnusable(f"{where}: must be a private key in PEM format") from None
    return context


class _Encrypted(Exception):
    pass


def _no_password() -> str:
    raise _Encrypted  # without this, OpenSSL asks on the terminal


def _holds_certificate(path: Path) -> bool:
    try:
        ssl.create_default_context(cadata=path.read_text(encoding="ascii"))
    except (ssl.SSLError, ValueError):
        return False
    return True
