"""Response formats: what shape a reply must have.

In: the parameter `response_format`, as a caller wrote it. Out: the rule of a grammar for the reply, None for free text,
or the error a server would answer. Knows nothing of models or of how a grammar is enforced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from chatlab.checks import check_flag, kind_of
from chatlab.errors import BadRequestError
from chatlab.schemas import SchemaFault, json_rule

__all__ = ["NAME", "check_response_format"]

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check_response_format(response_format: object) -> str | None:
    """Return the rule of a grammar that the reply has to follow; None where any text will do.

    Raises `BadRequestError` for an unknown type, a schema that is missing or is none, a name that is none.

    >>> check_response_format({"type": "text"}) is None
    True
    >>> check_response_format({"type": "json_object"})[:24]
    '%json {"type": "object",'
    """
    if response_format is None:
        return None
    if not isinstance(response_format, Mapping):
        raise BadRequestError(
            f"response_format must be a dict with a 'type', such as {{'type': 'text'}}, not "
            f"{kind_of(response_format)}.",
            param="response_format",
            code="invalid_type",
        )
    kind = response_format.get("type")
    if kind is None:
        raise BadRequestError(
            "response_format has no 'type'. Write {'type': 'text'}, 'json_object' or 'json_schema'.",
            param="response_format.type",
            code="missing_required_parameter",
        )
    if not isinstance(kind, str):
        raise BadRequestError(
            f"response_format.type must be a string, not {kind_of(kind)}.",
            param="response_format.type",
            code="invalid_type",
        )
    if kind not in ("text", "json_object", "json_schema"):
        raise _invalid(f"the type {kind[:40]!r}, which is none. Use 'text', 'json_object' or 'json_schema'")
    _check_keys(response_format, {"type", "json_schema"} if kind == "json_schema" else {"type"}, "response_format")
    if kind == "text":
        return None
    if kind == "json_object":
        return json_rule({"type": "object"})
    return _schema_rule(response_format.get("json_schema"))


def _schema_rule(json_schema: object) -> str:
    path = "response_format.json_schema"
    if json_schema is None:
        raise _invalid("no 'json_schema'. Write {'type': 'json_schema', 'json_schema': {'name': ..., 'schema': ...}}")
    if not isinstance(json_schema, Mapping):
        raise BadRequestError(f"{path} must be a dict, not {kind_of(json_schema)}.", param=path, code="invalid_type")
    _check_keys(json_schema, {"name", "description", "schema", "strict"}, path)
    name = json_schema.get("name")
    if name is None:
        raise BadRequestError(
            f"{path} has no 'name'. Give the schema one, such as 'answer'.",
            param=f"{path}.name",
            code="missing_required_parameter",
        )
    for key in ("name", "description"):
        if not isinstance(json_schema.get(key, ""), str | None):
            raise BadRequestError(
                f"{path}.{key} must be a string, not {kind_of(json_schema[key])}.",
                param=f"{path}.{key}",
                code="invalid_type",
            )
    if not NAME.fullmatch(name):
        raise BadRequestError(
            f"{path}.name is {name[:80]!r}. It may have up to 64 letters, digits, '_' and '-'.",
            param=f"{path}.name",
            code="invalid_value",
        )
    check_flag(f"{path}.strict", json_schema.get("strict"))  # either way, the schema is held to
    schema = json_schema.get("schema")
    if not isinstance(schema, Mapping):
        raise _invalid(f"no schema. response_format.json_schema.schema must be a dict, not {kind_of(schema)}")
    try:
        return json_rule(schema)
    except SchemaFault as fault:
        raise _invalid(f"a schema that cannot be used: {fault}") from fault


def _check_keys(value: Mapping[str, object], known: set[str], path: str) -> None:
    for key in value:
        if key not in known:
            raise BadRequestError(
                f"{path} has no field {str(key)[:40]!r}. It has {', '.join(sorted(known))}.",
                param=f"{path}.{str(key)[:40]}",
                code="unknown_parameter",
            )


def _invalid(what: str) -> BadRequestError:
    return BadRequestError(f"response_format has {what}.", param="response_format", code="invalid_value")
