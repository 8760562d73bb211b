"""Toxiproxy's HTTP API as a table: what stands, what is asked, what is answered."""

from typing import Any

import pytest

PROXY = {"name": "p", "upstream": "127.0.0.1:1", "listen": "127.0.0.1:0"}
OFF = {**PROXY, "enabled": False}
TOXIC = {"type": "latency", "attributes": {"latency": 10}}
SHOWN_TOXIC = {
    "attributes": {"latency": 10, "jitter": 0}, "name": "latency_downstream", "type": "latency",
    "stream": "downstream", "toxicity": 1,
}  # fmt: skip
TOXICS = "/proxies/p/toxics"
LATENCY = f"{TOXICS}/latency_downstream"
T = f"{TOXICS}/t"
WITH_PROXY = (("POST", "/proxies", OFF),)
WITH_TOXIC = (*WITH_PROXY, ("POST", TOXICS, TOXIC))


def error(text: str, status: int) -> str:
    """The body of an error, to the byte."""
    return f'{{"error":"{text}","status":{status}}}\n'


NO_PROXY = error("proxy not found", 404)
NO_TOXIC = error("toxic not found", 404)
NO_TYPE = error("invalid toxic type", 400)
NO_BODY = error("bad request body: EOF", 400)
BAD = {"status": 400}  # the text is each engine's own


def row(name: str, before: Any, method: str, path: str, body: Any, status: int, answer: Any) -> Any:
    """A row of the API's table. ``answer``: text to the byte, or JSON, of which objects may show more."""
    return pytest.param(before, method, path, body, status, answer, id=name)


API_ROWS = [
    row("no proxies", (), "GET", "/proxies", None, 200, "{}"),
    row("create", (), "POST", "/proxies", OFF, 201,
        {"name": "p", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:1", "enabled": False, "toxics": []}),
    row("create: keys in any case, unknown keys", (), "POST", "/proxies",
        {"NAME": "p", "upStream": "127.0.0.1:1", "Listen": "127.0.0.1:0", "x": 1, "ENABLED": False}, 201,
        {"name": "p", "enabled": False}),
    row("create: the last of equal keys", (), "POST", "/proxies",
        '{"name":"a","Name":"p","upstream":"127.0.0.1:1","enabled":false}', 201, {"name": "p"}),
    row("create: what follows is ignored", (), "POST", "/proxies",
        '{"name":"p","upstream":"127.0.0.1:1","enabled":false} {"x":', 201, {"name": "p"}),
    row("create: null is absent", (), "POST", "/proxies", {**PROXY, "enabled": None}, 201, {"enabled": True}),
    row("create: no name", (), "POST", "/proxies", {}, 400, error("missing required field: name", 400)),
    row("create: null", (), "POST", "/proxies", "null", 400, error("missing required field: name", 400)),
    row("create: no upstream", (), "POST", "/proxies", {"name": "p"}, 400,
        error("missing required field: upstream", 400)),
    row("create: empty body", (), "POST", "/proxies", "", 400, NO_BODY),
    row("create: torn body", (), "POST", "/proxies", '{"name":', 400,
        error("bad request body: unexpected EOF", 400)),
    row("create: not JSON", (), "POST", "/proxies", "x", 400,
        error("bad request body: invalid character 'x' looking for beginning of value", 400)),
    row("create: an array", (), "POST", "/proxies", [], 400, BAD),
    row("create: name is a number", (), "POST", "/proxies", {"name": 5}, 400, BAD),
    row("create: enabled is a string", (), "POST", "/proxies", {**PROXY, "enabled": "yes"}, 400, BAD),
    row("create: exists", WITH_PROXY, "POST", "/proxies", OFF, 409, error("proxy already exists", 409)),
    row("create: no port", (), "POST", "/proxies", {**PROXY, "listen": "127.0.0.1"}, 500,
        error("listen tcp: address 127.0.0.1: missing port in address", 500)),
    row("create: no such port", (), "POST", "/proxies", {**PROXY, "listen": "127.0.0.1:99999"}, 500,
        error("listen tcp: address 99999: invalid port", 500)),
    row("list", WITH_PROXY, "GET", "/proxies", None, 200, {"p": {"name": "p", "toxics": []}}),
    row("show", WITH_TOXIC, "GET", "/proxies/p", None, 200, {"name": "p", "toxics": [SHOWN_TOXIC]}),
    row("show: not found", (), "GET", "/proxies/p", None, 404, NO_PROXY),
    row("update by PATCH", WITH_PROXY, "PATCH", "/proxies/p", {"upstream": "127.0.0.1:2"}, 200,
        {"name": "p", "upstream": "127.0.0.1:2", "enabled": False}),
    row("update by POST", WITH_PROXY, "POST", "/proxies/p", {"enabled": True}, 200, {"enabled": True}),
    row("update: a name stays", WITH_PROXY, "PATCH", "/proxies/p", {"name": "q"}, 200, {"name": "p"}),
    row("update: not found", (), "PATCH", "/proxies/p", {}, 404, NO_PROXY),
    row("update: not found goes before a bad body", (), "PATCH", "/proxies/p", "x", 404, NO_PROXY),
    row("update: empty body", WITH_PROXY, "PATCH", "/proxies/p", "", 400, NO_BODY),
    row("update: no port", WITH_PROXY, "PATCH", "/proxies/p", {"listen": "bad"}, 500,
        error("address bad: missing port in address", 500)),
    row("delete", WITH_PROXY, "DELETE", "/proxies/p", None, 204, ""),
    row("delete: not found", (), "DELETE", "/proxies/p", None, 404, NO_PROXY),
    row("toxics: none", WITH_PROXY, "GET", TOXICS, None, 200, "[]"),
    row("toxics: one", WITH_TOXIC, "GET", TOXICS, None, 200, [SHOWN_TOXIC]),
    row("toxics: upstream first", (*WITH_TOXIC, ("POST", TOXICS, {**TOXIC, "stream": "upstream"})),
        "GET", TOXICS, None, 200, [{"stream": "upstream"}, {"stream": "downstream"}]),
    row("toxics: proxy not found", (), "GET", TOXICS, None, 404, NO_PROXY),
    row("add toxic", WITH_PROXY, "POST", TOXICS, TOXIC, 200,
        '{"attributes":{"latency":10,"jitter":0},"name":"latency_downstream","type":"latency",'
        '"stream":"downstream","toxicity":1}'),
    row("add toxic: stream keeps its case", WITH_PROXY, "POST", TOXICS,
        {"type": "noop", "stream": "UpStream", "toxicity": 0.25}, 200,
        {"name": "noop_UpStream", "stream": "UpStream", "toxicity": 0.25, "attributes": {}}),
    row("add toxic: null attributes", WITH_PROXY, "POST", TOXICS,
        {"type": "latency", "attributes": None}, 200, {"attributes": {"latency": 0, "jitter": 0}}),
    row("add toxic: keys in any case, unknown keys", WITH_PROXY, "POST", TOXICS,
        {"TYPE": "latency", "attributes": {"LATENCY": 3, "x": 1}}, 200,
        {"attributes": {"latency": 3, "jitter": 0}}),
    row("add toxic: proxy not found", (), "POST", TOXICS, TOXIC, 404, NO_PROXY),
    row("add toxic: exists", WITH_TOXIC, "POST", TOXICS, TOXIC, 409,
        error("toxic already exists", 409)),
    row("add toxic: stream", WITH_PROXY, "POST", TOXICS, {**TOXIC, "stream": "sideways"}, 400,
        error("stream was invalid, can be either upstream or downstream", 400)),
    row("add toxic: no type", WITH_PROXY, "POST", TOXICS, {}, 400, NO_TYPE),
    row("add toxic: type", WITH_PROXY, "POST", TOXICS, {"type": "Latency"}, 400, NO_TYPE),
    row("add toxic: a string for a number", WITH_PROXY, "POST", TOXICS,
        {"type": "latency", "attributes": {"latency": "5"}}, 400, BAD),
    row("add toxic: a float for an integer", WITH_PROXY, "POST", TOXICS,
        {"type": "latency", "attributes": {"latency": 5.0}}, 400, BAD),
    row("add toxic: beyond 64 bits", WITH_PROXY, "POST", TOXICS,
        {"type": "latency", "attributes": {"latency": 2**63}}, 400, BAD),
    row("add toxic: toxicity is a string", WITH_PROXY, "POST", TOXICS,
        {**TOXIC, "toxicity": "1"}, 400, BAD),
    row("show toxic", WITH_TOXIC, "GET", LATENCY, None, 200, SHOWN_TOXIC),
    row("show toxic: not found", WITH_PROXY, "GET", T, None, 404, NO_TOXIC),
    row("show toxic: proxy not found", (), "GET", T, None, 404, NO_PROXY),
    row("update toxic merges attributes", WITH_TOXIC, "PATCH", LATENCY,
        {"attributes": {"jitter": 2}, "name": "n", "stream": "upstream", "type": "noop"}, 200,
        {**SHOWN_TOXIC, "attributes": {"latency": 10, "jitter": 2}}),
    row("update toxic by POST", WITH_TOXIC, "POST", LATENCY, {"toxicity": 0.5}, 200,
        {**SHOWN_TOXIC, "toxicity": 0.5}),
    row("update toxic: nulls", WITH_TOXIC, "PATCH", LATENCY,
        {"attributes": None, "toxicity": None}, 200, SHOWN_TOXIC),
    row("update toxic: not found", WITH_PROXY, "PATCH", T, {}, 404, NO_TOXIC),
    row("update toxic: bad value", WITH_TOXIC, "PATCH", LATENCY,
        {"attributes": {"jitter": "2"}}, 400, BAD),
    row("delete toxic", WITH_TOXIC, "DELETE", LATENCY, None, 204, ""),
    row("delete toxic: not found", WITH_PROXY, "DELETE", T, None, 404, NO_TOXIC),
    row("populate", (), "POST", "/populate", [OFF, {**OFF, "name": "q"}], 201,
        {"proxies": [{"name": "p", "enabled": False}, {"name": "q"}]}),
    row("populate: same addresses stay untouched", WITH_TOXIC, "POST", "/populate",
        [{**PROXY, "enabled": True}], 201,
        {"proxies": [{"name": "p", "enabled": False, "toxics": [SHOWN_TOXIC]}]}),
    row("populate: another upstream replaces", WITH_TOXIC, "POST", "/populate",
        [{**OFF, "upstream": "127.0.0.1:2"}], 201, {"proxies": [{"upstream": "127.0.0.1:2", "toxics": []}]}),
    row("populate: no name", (), "POST", "/populate", [OFF, {"upstream": "127.0.0.1:1"}], 400,
        {"error": "missing required field: name at proxy 2", "status": 400}),
    row("populate: no upstream", (), "POST", "/populate", [{"name": "p"}], 400,
        {"error": "missing required field: upstream at proxy 1", "status": 400}),
    row("populate: an object", (), "POST", "/populate", {}, 400, BAD),
    row("populate: empty body", (), "POST", "/populate", "", 400,
        {"error": "bad request body: EOF", "status": 400}),
    row("populate stops at the first that cannot be bound", (), "POST", "/populate",
        [OFF, {**PROXY, "name": "q", "listen": "127.0.0.1:99999"}, {**OFF, "name": "r"}], 500,
        {"error": "listen tcp: address 99999: invalid port", "status": 500, "proxies": [{"name": "p"}]}),
    row("reset", WITH_TOXIC, "POST", "/reset", None, 204, ""),
    row("no such path", (), "GET", "/nope", None, 404, "404 page not found\n"),
    row("no such path: slash", (), "GET", "/proxies/", None, 404, "404 page not found\n"),
    row("no such method", (), "PUT", "/proxies", {}, 405, ""),
    row("no HEAD", (), "HEAD", "/version", None, 405, ""),
]  # fmt: skip
