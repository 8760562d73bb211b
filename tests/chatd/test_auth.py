"""Tokens: what is let in, and what is not. PyJWT is the judge of what a token is."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatd.auth import TOKEN_BYTES, Grant, SecretUnusable, Verifier, issue, read_secret
from chatd.protocol.errors import ChatdError, TokenExpired, Unauthorized
from chatd.rights import Right

SECRET = b"correct horse battery staple, and a bit more, so that SHA-512 is content"
NOW = 1_800_000_000.0
GOOD: dict[str, Any] = {"sub": "ann", "aud": "chatd", "exp": NOW + 60}


def verifier(now_s: float = NOW) -> Verifier:
    return Verifier(SECRET, "chatd", lambda: now_s)


def signed(claims: object, *, secret: bytes = SECRET, **header: object) -> str:
    """A token with any claims, by the library."""
    algorithm = header.pop("alg", "HS256")
    payload = json.dumps(claims).encode()
    return jwt.PyJWS().encode(payload, secret, algorithm=str(algorithm), headers=header)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_of_another_library_is_let_in() -> None:
    grant = verifier().grant(jwt.encode({**GOOD, "iss": "somebody"}, SECRET, algorithm="HS256"))
    assert (grant.user, grant.left_s) == ("ann", 60)
    assert grant.rights.may(Right.PUBLISH, "room:1")


def test_a_token_of_ours_is_one_for_another_library() -> None:
    rights = {"room:*": ["subscribe"]}
    token = issue(SECRET, user="żółw", audience="chatd", now_s=NOW, ttl_s=60, rights=rights)
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="chatd", options=options)
    assert claims == {"sub": "żółw", "aud": "chatd", "iat": NOW, "exp": NOW + 60, "rights": rights}
    assert verifier().grant(token).user == "żółw"


@pytest.mark.parametrize(
    ("token", "words"),
    [
        pytest.param("", "no JSON Web Token", id="empty"),
        pytest.param("a.b", "no JSON Web Token", id="two parts"),
        pytest.param("a.b.c", "header cannot be read", id="no base64 of JSON"),
        pytest.param("x" * TOKEN_BYTES + "..", "no JSON Web Token", id="too long"),
        pytest.param("ż.ó.ł", "no JSON Web Token", id="not ASCII"),
        pytest.param(f"{segment({'alg': 'none'})}.{segment(GOOD)}.", "alg must be HS256", id="none"),
        pytest.param(f"{segment({'alg': 'NoNe'})}.{segment(GOOD)}.", "alg must be HS256", id="None"),
        pytest.param(f"{segment({'alg': 'HS256'})}.{segment(GOOD)}.", "signature", id="no signature"),
        pytest.param(f"{segment({})}.{segment(GOOD)}.x", "header cannot be read", id="no alg"),
        pytest.param(f"{segment({'alg': 5})}.{segment(GOOD)}.x", "header cannot be read", id="alg a number"),
        pytest.param(signed(GOOD, alg="HS512"), "alg must be HS256", id="another algorithm, the right key"),
        pytest.param(signed(GOOD, crit=["exp"]), "crit", id="an extension that must be understood"),
        pytest.param(signed(GOOD, secret=SECRET[::-1]), "signature", id="another key"),
        pytest.param(signed(without("exp")), "exp", id="no exp"),
        pytest.param(signed(without("aud")), "aud", id="no aud"),
        pytest.param(signed(without("sub")), "sub", id="no sub"),
        pytest.param(signed({**GOOD, "aud": "other"}), "aud must be 'chatd'", id="another audience"),
        pytest.param(signed({**GOOD, "aud": ["a", "b"]}), "aud must be 'chatd'", id="other audiences"),
        pytest.param(signed({**GOOD, "sub": 5}), "claims", id="sub a number"),
        pytest.param(signed({**GOOD, "sub": ""}), "sub is no name", id="sub empty"),
        pytest.param(signed({**GOOD, "sub": "a\nb"}), "sub is no name", id="sub with a line end"),
        pytest.param(signed({**GOOD, "exp": "soon"}), "claims", id="exp a word"),
        pytest.param(signed({**GOOD, "exp": True}), "claims", id="exp a boolean"),
        pytest.param(signed({**GOOD, "exp": 1e300}), "times in seconds", id="exp at the end of time"),
        pytest.param(signed({**GOOD, "nbf": NOW + 1}), "not valid yet", id="not yet"),
        pytest.param(signed({**GOOD, "rights": []}), "claims", id="rights a list"),
        pytest.param(signed({**GOOD, "rights": {"a*b": ["publish"]}}), "pattern", id="a bad pattern"),
        pytest.param(signed({**GOOD, "rights": {"a": ["fly"]}}), "right must be one of", id="a bad right"),
        pytest.param(signed([GOOD]), "claims", id="claims a list"),
    ],
)
def test_what_is_not_let_in(token: str, words: str) -> None:
    with pytest.raises(Unauthorized, match=words):
        verifier().grant(token)


@pytest.mark.parametrize(("at", "left_s"), [(NOW, 60), (NOW + 59.5, 0.5)])
def test_a_token_lasts_until_exp(at: float, left_s: float) -> None:
    assert verifier(at).grant(signed(GOOD)).left_s == left_s


@pytest.mark.parametrize("at", [NOW + 60, NOW + 1e6])
def test_a_token_has_expired_from_exp_on(at: float) -> None:
    with pytest.raises(TokenExpired):
        verifier(at).grant(signed(GOOD))


def test_one_of_several_audiences_is_enough() -> None:
    assert verifier().grant(signed({**GOOD, "aud": ["x", "chatd"]})).user == "ann"


@given(st.integers(0, 400), st.integers(1, 255))
def test_no_byte_of_a_token_can_be_changed(position: int, change: int) -> None:
    token = signed(GOOD)
    position %= len(token)
    changed = token[:position] + chr(ord(token[position]) ^ change) + token[position + 1 :]
    with pytest.raises((Unauthorized, TokenExpired)):
        verifier().grant(changed)


@given(
    st.text()
    | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,43}", fullmatch=True)
)
@example("\ud800..")
def test_whatever_is_shown_is_refused_with_an_error_of_ours(token: str) -> None:
    with pytest.raises(ChatdError):
        verifier().grant(token)


@given(
    st.dictionaries(
        st.sampled_from(["sub", "aud", "exp", "nbf", "rights"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("chatd") | st.just(NOW + 9)
        | st.lists(st.just("chatd"), max_size=2)
        | st.dictionaries(st.text(max_size=3), st.lists(st.sampled_from(["publish", "fly"]), max_size=2)),
    )
)  # fmt: skip
def test_claims_of_any_kind_are_a_grant_or_an_error_of_ours(claims: dict[str, object]) -> None:
    with suppress(Unauthorized, TokenExpired):
        assert isinstance(verifier().grant(signed({**GOOD, **claims})), Grant)


def test_no_error_says_what_stood_in_the_token() -> None:
    for claims in (
        {**GOOD, "sub": "s3cr3t\n"},
        {**GOOD, "rights": {"s3cr3t": ["s3cr3t"]}},
        {"exp": "s3cr3t"},
    ):
        with pytest.raises(Unauthorized) as refused:
            verifier().grant(signed(claims))
        assert "s3cr3t" not in refused.value.reason


# The secret -------------------------------------------------------------------------------------------


def test_a_secret_is_what_a_file_or_a_variable_holds(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(SECRET + b"\n")
    assert read_secret(file, "", {}) == SECRET
    assert read_secret(None, "S", {"S": SECRET.decode()}) == SECRET
    assert read_secret(None, "", {"S": SECRET.decode()}) is None


@pytest.mark.parametrize(
    ("content", "environ", "words"),
    [
        pytest.param(None, {}, "cannot be read: No such file", id="no file"),
        pytest.param(b"too short to keep", {}, "holds 17 bytes: must hold 32 or more; make one", id="short"),
        pytest.param("", {}, "no such environment variable", id="no variable"),
        pytest.param("", {"S": "short"}, "holds 5 bytes", id="short variable"),
    ],
)
def test_a_secret_that_cannot_be_used_is_one_line(tmp_path: Path, content, environ, words) -> None:
    file = None if content == "" else tmp_path / "secret"
    if content and file is not None:
        file.write_bytes(content)
    with pytest.raises(SecretUnusable, match=words) as caught:
        read_secret(file, "S" if file is None else "", environ)
    assert "\n" not in str(caught.value)
    assert "too short to keep" not in str(caught.value)


def test_a_verifier_does_not_show_its_secret() -> None:
    assert "horse" not in repr(verifier())


@pytest.mark.parametrize("user", ["", "a\nb", "x" * 129])
def test_a_token_for_nobody_is_not_made(user: str) -> None:
    with pytest.raises(ValueError, match="sub"):
        issue(SECRET, user=user, audience="chatd", now_s=NOW, ttl_s=60)
