"""As much of JSON Schema as reports/schemas uses; an unknown keyword is an error, never ignored."""

from __future__ import annotations

from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_KNOWN = {
    "$schema",
    "title",
    "description",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "minimum",
}


def violations(value: Any, schema: dict[str, Any], place: str = "$") -> list[str]:
    """Where a value breaks a schema, one line each."""
    unknown = set(schema) - _KNOWN
    assert not unknown, f"{place}: keywords {unknown} are not known here"
    found: list[str] = []
    if "const" in schema and value != schema["const"]:
        found.append(f"{place} is {value!r}, must be {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{place} is {value!r}, must be one of {schema['enum']}")
    if "type" in schema and not _is(value, schema["type"]):
        return [*found, f"{place} is {value!r}, must be {schema['type']}"]
    if "minimum" in schema and isinstance(value, int | float) and value < schema["minimum"]:
        found.append(f"{place} is {value!r}, must be at least {schema['minimum']}")
    if isinstance(value, dict):
        found += _of_object(value, schema, place)
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            found += violations(item, schema["items"], f"{place}[{i}]")
    return found


def _of_object(value: dict[str, Any], schema: dict[str, Any], place: str) -> list[str]:
    found = [f"{place}.{key} is missing" for key in schema.get("required", ()) if key not in value]
    for key, item in value.items():
        inner = schema.get("properties", {}).get(key, schema.get("additionalProperties", True))
        if inner is False:
            found.append(f"{place}.{key} is not allowed")
        elif isinstance(inner, dict):
            found += violations(item, inner, f"{place}.{key}")
    return found


def _is(value: Any, kinds: str | list[str]) -> bool:
    names = [kinds] if isinstance(kinds, str) else kinds
    return any(
        isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
        for name in names
    )
