"""What the settings say about trust, read from the files that they name."""

from __future__ import annotations

import time
from collections.abc import Mapping

from .auth import SecretUnusable, Verifier, read_secret
from .config import Config, ConfigError
from .tls import TlsUnusable, server_context


def authority(config: Config, environ: Mapping[str, str]) -> Verifier | None:
    """Who judges tokens; None: nobody has to show one. Reads the secret.

    Raises:
        ConfigError: with one line for each secret, certificate or key that cannot be used.
    """
    faults: list[str] = []
    verifier = None
    try:
        secret = read_secret(config.auth_secret_file, config.auth_secret_env, environ)
        if secret is not None:
            verifier = Verifier(secret, config.auth_audience, time.time)
    except SecretUnusable as bad:
        faults.append(str(bad))
    if config.tls_cert is not None:
        try:
            server_context(config.tls_cert, config.tls_key)
        except TlsUnusable as bad:
            faults.append(str(bad))
    if faults:
        raise ConfigError(faults)
    return verifier
