"""How load clients are let in: tokens from a secret or a command, certificates."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest
from pydantic import ValidationError

from chatd.auth import Verifier, read_secret
from chatd.protocol.tokens import sign
from loadgen import trust
from loadgen.trust import Auth, AuthFailed, Tls, Tokens
from tests.chatd.certificates import make_certificate

SECRET = "a secret that is long enough for HS256"
NOW_S = 1_800_000_000.0


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    return path


def claims(token: str | None) -> dict[str, Any]:
    assert token is not None
    checked = {"verify_exp": False, "verify_iat": False}
    found: dict[str, Any] = jwt.decode(token, SECRET, algorithms=["HS256"], audience="chatd", options=checked)
    return found


def test_a_token_is_what_another_library_takes_for_one(secret: Path) -> None:
    tokens = Tokens(Auth(secret_file=secret, ttl_s=60, claims={"rights": {"room:*": ["publish"]}}))
    assert claims(tokens.of("c7", NOW_S)) == {
        "sub": "c7", "aud": "chatd", "iat": int(NOW_S), "exp": int(NOW_S) + 60,
        "rights": {"room:*": ["publish"]},
    }  # fmt: skip


def test_the_server_and_the_load_read_the_same_file_alike(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f" {SECRET} \r\n")
    token = Tokens(Auth(secret_file=path)).of("c7", NOW_S)
    secret = read_secret(path, "", {})
    assert secret is not None
    assert token is not None
    assert Verifier(secret, "chatd", lambda: NOW_S).grant(token).user == "c7"


def test_without_an_audience_there_is_no_such_claim(secret: Path) -> None:
    token = Tokens(Auth(secret_file=secret, audience="")).of("c1", NOW_S)
    assert token is not None
    assert "aud" not in jwt.decode(token, options={"verify_signature": False})


def test_the_secret_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_SECRET", SECRET)
    assert claims(Tokens(Auth(secret_env="CHAT_SECRET")).of("c1", NOW_S))["sub"] == "c1"


def test_a_token_is_kept_until_shortly_before_it_expires(secret: Path) -> None:
    tokens = Tokens(Auth(secret_file=secret, ttl_s=100))
    first = tokens.of("c1", NOW_S)
    assert tokens.of("c1", NOW_S + 69) == first
    assert tokens.of("c1", NOW_S + 71) != first
    assert tokens.of("c2", NOW_S) != first


def test_nobody_has_to_log_in_where_nothing_is_said() -> None:
    tokens = Tokens(None)
    assert tokens.ready("c1", NOW_S)
    assert tokens.of("c1", NOW_S) is None


# Commands ------------------------------------------------------------------------------------------------


def command(code: str) -> Auth:
    return Auth(command=(sys.executable, "-c", code, "{client}"))


def test_a_command_is_asked_once_for_each_client_until_its_token_expires(tmp_path: Path) -> None:
    log = tmp_path / "asked"
    token = sign(b"k", {"sub": "x", "exp": NOW_S + 100})
    tokens = Tokens(
        command(f"import sys; open({str(log)!r}, 'a').write(sys.argv[1] + ' '); print({token!r})")
    )
    assert not tokens.ready("c1", NOW_S)
    assert tokens.of("c1", NOW_S) == token
    assert tokens.ready("c1", NOW_S)
    tokens.of("c1", NOW_S + 60)
    tokens.of("c2", NOW_S)
    tokens.of("c1", NOW_S + 80)
    assert log.read_text() == "c1 c2 c1 "


def test_a_token_that_is_no_jwt_is_kept_for_ever() -> None:
    tokens = Tokens(command("print('opaque')"))
    assert tokens.of("c1", NOW_S) == "opaque"
    assert tokens.ready("c1", NOW_S * 2)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        pytest.param("import sys; sys.exit('no such user')", "ended with 1: no such user", id="fails"),
        pytest.param("pass", "printed nothing", id="silent"),
    ],
)
def test_a_command_that_gives_no_token_is_told(code: str, told: str) -> None:
    with pytest.raises(AuthFailed, match=told):
        Tokens(command(code)).of("c1", NOW_S)


def test_a_command_that_never_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "COMMAND_S", 0.3)
    with pytest.raises(AuthFailed, match="timed out"):
        Tokens(command("import signal; signal.pause()")).of("c1", NOW_S)


# What is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param({}, "exactly one of secret_file, secret_env and command", id="none"),
        pytest.param({"secret_env": "A", "secret_file": "b"}, "exactly one of", id="two"),
        pytest.param({"command": ["/no/such/program", "{client}"]}, "is no program here", id="no program"),
        pytest.param({"command": [sys.executable]}, "must hold {client}", id="one token for all"),
        pytest.param({"secret_env": "A", "ttl_s": 0}, "greater than 0", id="no time"),
        pytest.param({"secret_env": "A", "ttl": 5}, "Extra inputs", id="unknown key"),
    ],
)
def test_a_section_that_cannot_be_meant_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Auth.model_validate(given)


def test_a_secret_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(AuthFailed, match="cannot be read: No such file"):
        Tokens(Auth(secret_file=tmp_path / "none"))
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(AuthFailed, match="empty or not set"):
        Tokens(Auth(secret_file=tmp_path / "empty"))
    with pytest.raises(AuthFailed, match="secret_env is 'NO_SUCH_NAME'"):
        Tokens(Auth(secret_env="NO_SUCH_NAME"))


def test_a_certificate_is_trusted_by_its_file(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    context = Tls(ca=made.cert).context()
    assert context.check_hostname
    assert len(context.get_ca_certs()) > len(Tls().context().get_ca_certs())


@pytest.mark.parametrize("text", ["", "no certificate"], ids=["empty", "text"])
def test_a_file_that_is_no_certificate_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(text)
    with pytest.raises(AuthFailed, match=r"server\.tls\.ca is .*: cannot be used: not a certificate"):
        Tls(ca=path).context()
    with pytest.raises(AuthFailed, match="No such file"):
        Tls(ca=tmp_path / "none").context()


def test_no_secret_is_in_what_a_run_writes_down(secret: Path) -> None:
    assert SECRET not in json.dumps(Auth(secret_file=secret).model_dump(mode="json"))
