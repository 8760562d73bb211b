"""Request bodies, read as Go's ``encoding/json`` reads them.

Keys are case-insensitive, unknown keys and what follows the first value are ignored,
null is the same as absent, and an integer is not a float.
"""

import json
from collections.abc import Mapping
from typing import Any

from chaos.proxy.chain import ActiveToxic, attributes
from chaos.proxy.toxics import TOXICS
from chaos.proxy.toxics.base import Ruled, Toxic

INT64_MAX = 2**63 - 1


class ApiError(Exception):
    """What the API answers: a text and an HTTP status."""

    def __init__(self, error: str, status: int) -> None:
        super().__init__(error)
        self.error, self.status = error, status


def bad_body(why: str) -> ApiError:
    """400, in Toxiproxy's words."""
    return ApiError(f"bad request body: {why}", 400)


def decode(body: bytes) -> Any:
    """The first JSON value in ``body``.

    Raises:
        ApiError: there is none.
    """
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise bad_body("EOF")
    try:
        value, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
            raise bad_body("unexpected EOF") from None
        where = "looking for beginning of value" if error.msg == "Expecting value" else f"at {error.pos}"
        raise bad_body(f"invalid character {text[error.pos]!r} {where}") from None
    except (ValueError, RecursionError) as error:
        raise bad_body(str(error)) from None
    return value


def as_object(value: object, what: str) -> dict[str, Any]:
    """A JSON object with lower-case keys and without nulls; null is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_body(f"{what} is {_shown(value)}: must be an object")
    return {key.lower(): item for key, item in value.items() if item is not None}


def text(fields: Mapping[str, Any], name: str, default: str = "") -> str:
    """A string field."""
    value = fields.get(name, default)
    if isinstance(value, str):
        return value
    raise bad_body(f"{name} is {_shown(value)}: must be a string")


def flag(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    """A boolean field."""
    value = fields.get(name, default)
    if isinstance(value, bool):
        return value
    raise bad_body(f"{name} is {_shown(value)}: must be true or false")


def toxicity(fields: Mapping[str, Any], default: float) -> float:
    """A share of connections."""
    value = fields.get("toxicity", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise bad_body(f"toxicity is {_shown(value)}: must be a number from 0 to 1")
    return float(value)


def new_toxic(value: object) -> ActiveToxic:
    """A toxic from the body of a request.

    Raises:
        ApiError: 400, in Toxiproxy's order: types, stream, type, attributes.
    """
    fields = as_object(value, "the body")
    kind, stream, name = text(fields, "type"), text(fields, "stream", "downstream"), text(fields, "name")
    share = toxicity(fields, 1.0)
    if stream.lower() not in ("upstream", "downstream"):
        raise ApiError("stream was invalid, can be either upstream or downstream", 400)
    if kind not in TOXICS:
        raise ApiError("invalid toxic type", 400)
    toxic = with_attributes(TOXICS[kind](), fields.get("attributes"))
    aimed, live = _ordinals(fields.get("ordinals")), flag(fields, "live", False)
    return ActiveToxic(name or f"{kind}_{stream}", kind, stream, share, toxic, ordinals=aimed, live=live)


def _ordinals(value: object) -> frozenset[int] | None:
    """Clients that a toxic is aimed at; None: all."""
    if value is None:
        return None
    if isinstance(value, list) and all(type(item) is int and 0 <= item <= INT64_MAX for item in value):
        return frozenset(value)
    raise bad_body(f"ordinals is {_shown(value)}: must be an array of whole numbers, 0 or more")


def with_attributes(toxic: Toxic, value: object) -> Toxic:
    """A toxic like ``toxic``, with the attributes in ``value`` instead of its own.

    Raises:
        ApiError: 400 with every rule that is broken.
    """
    given = as_object(value, "attributes")
    new = attributes(toxic)
    faults = []
    for name in new:
        item = given.get(name, new[name])
        if rule := _broken_type(item, type(new[name])):
            faults.append(f"{name} is {_shown(item)}: {rule}")
        new[name] = item
    if not faults:
        changed = type(toxic)(**new)
        rule = changed.broken_rule() if isinstance(changed, Ruled) else None
        if rule is None:
            return changed
        faults.append(rule)
    raise bad_body("; ".join(f"attributes.{fault}" for fault in faults))


def _broken_type(item: object, wanted: type) -> str | None:
    """The rule of an attribute's type that a value breaks."""
    if wanted is str:
        return None if isinstance(item, str) else "must be a string"
    whole = wanted is int
    right = not isinstance(item, bool) and isinstance(item, int if whole else int | float)
    if right and 0 <= item <= INT64_MAX:  # type: ignore[operator]
        return None
    return f"must be a {'whole number' if whole else 'number'}, 0 or more"


def _shown(value: object) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
