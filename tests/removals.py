"""Answers that prove that a key is gone, and answers that only look like it."""

from attrs import evolve

from openrouter_keys.emulator import Fault
from openrouter_keys.emulator.faults import OperationName

#: A DELETE that leaves its key alone, and is answered so.
NOT_DELETED = {
    "deleted: false": Fault(status=200, body=b'{"deleted": false}'),
    "deleted: null": Fault(status=200, body=b'{"deleted": null}'),
    "deleted: a text": Fault(status=200, body=b'{"deleted": "true"}'),
    "deleted: a number": Fault(status=200, body=b'{"deleted": 1}'),
    "another word": Fault(status=200, body=b'{"success": false}'),
    "another word, and true": Fault(status=200, body=b'{"success": true}'),
    "an error": Fault(status=200, body=b'{"error": {"code": 400, "message": "no"}}'),
    "an error beside it": Fault(status=200, body=b'{"deleted": false, "error": "no"}'),
    "a list": Fault(status=200, body=b"[]"),
    "half of it": Fault(status=200, body=b'{"deleted": tr'),
    "accepted": Fault(status=202, body=b""),
    "no content": Fault(status=204, body=b""),
    "a login page": Fault(status=200, body=b"<html>Please log in</html>"),
    "404": Fault(status=404),
    "404 of a page": Fault(status=404, body=b"<html>404</html>"),
    "404 of a proxy": Fault(status=404, body=b'{"message": "no Route matched"}'),
    "404, a text": Fault(status=404, body=b'{"error": "Resource not found"}'),
    "404, empty": Fault(status=404, body=b""),
    "404 under 200": Fault(
        status=200, body=b'{"error": {"code": 404, "message": "Resource not found"}}'
    ),
}
#: A 404 that is not the API's own, so that not even a second look makes a proof of it.
ALIEN_404 = ("404 of a page", "404 of a proxy", "404, a text", "404, empty")


def not_deleted(answer: str, operation: OperationName = "delete") -> Fault:
    """Answer a request so, and leave the key alone."""
    return evolve(NOT_DELETED[answer], operation=operation, times=None)


def deleted_in_silence(answer: str) -> Fault:
    """Delete the key, and answer so all the same."""
    return evolve(NOT_DELETED[answer], operation="delete", phase="after", times=None)
