"""Self-signed certificates for tests, made by the ``openssl`` command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


class Certificate(NamedTuple):
    cert: Path
    key: Path


def make_certificate(directory: Path, name: str = "server") -> Certificate:
    """A certificate for 127.0.0.1 and its key, as PEM files."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl command to make a certificate with")
    made = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
    command = [
        openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
        "-out", str(made.cert), "-keyout", str(made.key),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return made
