"""Requests in a body: ``POST /publish``. PROTOCOL.md § Fallback transports."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from aiohttp import web

from ..config import Config
from ..protocol.errors import BadRequest, TooLarge
from ..protocol.messages import REQUEST_TYPES, Connect
from .base import Gateway
from .caller import caller
from .mailbox import Mailbox, Refused, as_error, outcome_unknown, session

BODY_S: Final = 10.0  # for a body to arrive
ANSWER_S: Final = 30.0
TYPES: Final = ("publish", "react", "edit", "delete", "history")  # need no subscription, have one reply

_decode_body = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode
_number = msgspec.json.Decoder(int).decode


class _Reply(msgspec.Struct):
    id: int | None = None


_reply = msgspec.json.Decoder(_Reply).decode


class Posted(msgspec.Struct, frozen=True):
    """A body, read: the frame for the session, byte for byte what the client wrote."""

    frame: bytes
    request: int
    kind: str
    client: str | None


def parse_post(body: bytes) -> Posted:
    """Read a body: a frame in which ``type`` and ``id`` may be left out, and who sends it (``client``).

    Raises:
        BadRequest: it is not an object, or one of the three is wrong. The rest is the session's to judge.
    """
    try:
        fields = _decode_body(body)
        client = _string(fields.pop("client")) if "client" in fields else None
        kind = _string(fields["type"]) if "type" in fields else "publish"
        request = _number(fields["id"]) if "id" in fields else 1
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as bad:
        raise BadRequest(f"the body is no frame: {bad}") from None
    if not 1 <= request < 2**32:
        raise BadRequest(f"id is {request}: must be from 1 to 2^32 - 1")
    if kind in REQUEST_TYPES and kind not in TYPES:
        bad_type = BadRequest(f"type is {kind!r}: must be one of {', '.join(TYPES)}")
        raise Refused.because(bad_type, request=request)
    head = {"type": msgspec.Raw(msgspec.json.encode(kind)), "id": msgspec.Raw(b"%d" % request)}
    return Posted(msgspec.json.encode({**fields, **head}), request, kind, client)


async def serve_post(request: web.BaseRequest, gateway: Gateway, config: Config) -> web.StreamResponse:
    """Hand one request to a session of its own, and answer with its reply."""
    if request.content_type != "application/json":
        bad = BadRequest(f"Content-Type is {request.content_type!r}: must be application/json")
        raise Refused.because(bad, status=415)
    posted = parse_post(await _body(request, config.frame_bytes))
    who = caller(request)
    if posted.kind != "history" and posted.client is None and who.token is None:
        missing = BadRequest("client is missing: without a name no retry is recognised")
        raise Refused.because(missing, request=posted.request)
    connect = Connect(id=0, client=posted.client)
    async with session(gateway, who, connect) as (mailbox, _):
        mailbox.peer.received(posted.frame)
        reply = await _answer(mailbox, posted)
    error = as_error(reply)
    if error is not None:
        raise Refused(error)
    return web.Response(body=reply, content_type="application/json")


async def _answer(mailbox: Mailbox, posted: Posted) -> bytes:
    try:
        async with asyncio.timeout(ANSWER_S):
            while frames := await mailbox.take():
                for payload in frames:
                    if _reply(payload).id == posted.request:
                        return payload
    except TimeoutError:
        raise outcome_unknown(f"no answer within {ANSWER_S:g} s") from None
    code, reason = mailbox.end or (1006, "the session ended")
    raise outcome_unknown(f"closed with {code} before the answer: {reason}")


async def _body(request: web.BaseRequest, limit_bytes: int) -> bytes:
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Refused.because(BadRequest("Content-Encoding must be identity"), status=415)
    too_large = TooLarge(f"the body has more than {limit_bytes} bytes")
    if (request.content_length or 0) > limit_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit_bytes:
                    raise too_large
    except TimeoutError:
        raise Refused.because(BadRequest(f"the body took longer than {BODY_S:g} s"), status=408) from None
    return bytes(body)
