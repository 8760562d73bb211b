"""TLS: files that cannot be used are one line each."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from chatd.cli import run_command
from chatd.tls import TlsUnusable, server_context
from tests.chatd.certificates import make_certificate


def test_a_certificate_and_its_key_make_a_context_of_modern_tls(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    context = server_context(made.cert, made.key)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    both = tmp_path / "both.pem"
    both.write_bytes(made.cert.read_bytes() + made.key.read_bytes())
    assert server_context(both, None)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param("no cert", r"tls_cert is '.*server\.pem': cannot be read: No such file", id="no cert"),
        pytest.param("no key", r"tls_key is '.*server\.key': cannot be read: No such file", id="no key"),
        pytest.param("other key", r"tls_key is '.*': does not belong to tls_cert", id="another's key"),
        pytest.param("bad cert", r"tls_cert is '.*': must be a certificate in PEM", id="no certificate"),
        pytest.param("bad key", r"tls_key is '.*': must be a private key in PEM", id="no key in the file"),
        pytest.param("encrypted", r"tls_key is '.*': is encrypted", id="an encrypted key"),
    ],
)
def test_files_that_cannot_be_used_are_one_line(tmp_path: Path, spoil: str, words: str) -> None:
    made = make_certificate(tmp_path)
    match spoil:
        case "no cert":
            made.cert.unlink()
        case "no key":
            made.key.unlink()
        case "other key":
            made.key.write_bytes(make_certificate(tmp_path, "other").key.read_bytes())
        case "bad cert":
            made.cert.write_text("hello")
        case "bad key":
            made.key.write_text("hello")
        case "encrypted":
            plain = made.key.rename(tmp_path / "plain.key")
            openssl = shutil.which("openssl") or ""
            command = [
                openssl,
                "ec",
                "-aes128",
                "-passout",
                "pass:x",
                "-in",
                str(plain),
                "-out",
                str(made.key),
            ]
            subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(TlsUnusable, match=words) as caught:
        server_context(made.cert, made.key)
    assert "\n" not in str(caught.value)


def test_the_command_says_what_is_wrong_with_secret_and_certificate_at_once(tmp_path: Path, capsys) -> None:
    flags = ["--port", "0", "--store", "memory", "--auth-secret-file", str(tmp_path / "none"),
             "--tls-cert", str(tmp_path / "none.pem")]  # fmt: skip
    assert run_command(flags) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("chatd: auth_secret_file is ")
    assert lines[1].startswith("chatd: tls_cert is ")
