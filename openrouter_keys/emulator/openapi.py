"""The OpenAPI document of the six operations, from what is known of the service. Data only.

It shares nothing with the code that answers, so that tests can compare the two.
"""

from collections.abc import Iterable
from typing import Final

from openrouter_keys.emulator.schemas import FILLED, FLAG, SCHEMAS, TEXT, UUID, Schema, all_of, ref

_ERRORS: Final[dict[int, str]] = {
    400: "The request is not valid",
    401: "No key, an unknown one, or one that may not do this",
    403: "The key may not do this",
    404: "No such key or workspace",
    409: "The key's state does not allow it",
    429: "Too many requests",
    500: "The service failed",
}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _operation(
    id: str, summary: str, success: Schema, errors: Iterable[int], more: Schema | None = None
) -> Schema:
    failures: Schema = {
        str(status): {"$ref": f"#/components/responses/{status}"} for status in errors
    }
    about: Schema = {"operationId": id, "summary": summary, "tags": ["API Keys"]}
    return about | (more or {}) | {"responses": success | failures}


def _success(status: int, schema: Schema, links: Schema | None = None) -> Schema:
    answer: Schema = {"description": "Done", "content": _json(schema)}
    return {str(status): answer | ({"links": links} if links else {})}


def _body(name: str) -> Schema:
    return {"requestBody": {"required": True, "content": _json(ref(name))}}


def _query(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": description}


_OFFSET: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_HASH: Final[Schema] = {"name": "hash", "in": "path", "required": True, "schema": FILLED}
_ONE: Final = _success(200, all_of({"data": ref("Key")}))
# Clients can get, update and delete what a create makes.
_BY_HASH: Final[Schema] = {
    id: {"operationId": id, "parameters": {"hash": "$response.body#/data/hash"}}
    for id in ("getKey", "updateKeys", "deleteKeys")
}
_CURRENT: Final = _operation(
    "getCurrentKey",
    "The key that this request is made with",
    _success(200, all_of({"data": ref("CurrentKey")})),
    [401, 500],
)
_LIST: Final = _operation(
    "list",
    "A page of keys, newest first",
    _success(200, all_of({"data": {"type": "array", "items": ref("Key"), "maxItems": 100}})),
    [400, 401, 404, 429, 500],
    {
        "parameters": [
            _query("include_disabled", FLAG, "Whether to list disabled keys too"),
            _query("include_expired", FLAG, "Whether to list expired keys too"),
            _query("offset", _OFFSET, "How many keys to skip"),
            _query("workspace_id", UUID, "Whose keys; the default workspace's if left out"),
        ]
    },
)
_CREATE: Final = _operation(
    "createKeys",
    "Make a key; this answer alone holds its secret",
    _success(201, all_of({"data": ref("Key"), "key": TEXT}), _BY_HASH),
    [400, 401, 403, 429, 500],
    _body("CreateKey"),
)
_GET: Final = _operation("getKey", "A key", _ONE, [401, 404, 429, 500])
_UPDATE: Final = _operation(
    "updateKeys",
    "Change a key by the fields that are there",
    _ONE,
    [400, 401, 403, 404, 409, 429, 500],
    _body("UpdateKey"),
)
_DELETE: Final = _operation(
    "deleteKeys",
    "Remove a key for good",
    _success(200, all_of({"deleted": {"const": True}})),
    [401, 404, 429, 500],
)

DOCUMENT: Final[Schema] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Emulated OpenRouter API keys",
        "version": "2026-11",
        "description": "Not the service's own document: the emulator's, of six operations.",
    },
    "servers": [{"url": "/api/v1"}],
    "security": [{"key": []}],
    "paths": {
        "/key": {"get": _CURRENT},
        "/keys": {"get": _LIST, "post": _CREATE},
        "/keys/{hash}": {
            "parameters": [_HASH],
            "get": _GET,
            "patch": _UPDATE,
            "delete": _DELETE,
        },
    },
    "components": {
        "schemas": SCHEMAS,
        "responses": {
            str(status): {"description": text, "content": _json(ref("Error"))}
            for status, text in _ERRORS.items()
        },
        "securitySchemes": {
            "key": {
                "type": "http",
                "scheme": "bearer",
                "description": "A management key; any live key for GET /key.",
            }
        },
    },
}
