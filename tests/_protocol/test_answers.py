"""What an answer that says no means, whatever became of its body."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from openrouter_keys import errors
from openrouter_keys._protocol.answers import is_api_404, refusal
from openrouter_keys.errors import JSON, ErrorData, ErrorDetail
from tests.records import PARTNER_SECRET, SECRET, answer, patient
from tests.tables import in_one_test


def body(value: JSON) -> bytes:
    return json.dumps(value).encode()


def refused(value: JSON, status: int = 400) -> errors.ResponseError:
    return refusal(answer(body(value), status))


CLASSES: dict[int, type[errors.ResponseError]] = {
    400: errors.BadRequestResponseError,
    401: errors.UnauthorizedResponseError,
    403: errors.ForbiddenResponseError,
    404: errors.NotFoundResponseError,
    409: errors.ConflictResponseError,
    429: errors.TooManyRequestsResponseError,
    500: errors.InternalServerResponseError,
}
RAWS = [b'{"error": {"code": 500, "message": "no"}}', b'{"error": "no"}', b"<html>", b"", b"null"]


@pytest.mark.parametrize("raw", RAWS)
def test_the_status_decides_the_class_and_never_the_body(raw: bytes) -> None:
    for status in [*range(100, 200), *range(300, 600)]:
        error = refusal(answer(raw, status))
        assert type(error) is CLASSES.get(status, errors.OpenRouterDefaultError)


def test_a_refusal_as_documented_is_read_whole() -> None:
    error = refused(
        {
            "error": {
                "code": 429,
                "message": "Rate limit exceeded",
                "metadata": {"error_type": "rate_limit_exceeded"},
            },
            "user_id": "user_2",
            "openrouter_metadata": {"request": 1},
        },
        429,
    )
    assert error.data == ErrorData(
        ErrorDetail(429, "Rate limit exceeded", {"error_type": "rate_limit_exceeded"}),
        "user_2",
        {"request": 1},
    )
    assert error.message == "Rate limit exceeded"
    assert '"user_2"' in error.body


@in_one_test(
    "value, detail",
    [
        ({"error": {"code": "bad", "message": "no"}}, ErrorDetail("bad", "no")),
        ({"error": {"code": 4001, "message": "no", "metadata": None}}, ErrorDetail(4001, "no")),
        ({"error": {"code": None, "message": "no"}}, ErrorDetail(400, "no")),
        ({"error": {"code": True, "message": "no"}}, ErrorDetail(400, "no")),
        ({"error": {"message": "no", "metadata": [1]}}, ErrorDetail(400, "no")),
        ({"error": {"code": 400, "message": ""}}, ErrorDetail(400, "Bad Request")),
        ({"error": {"code": 400, "message": ["no"]}}, ErrorDetail(400, "Bad Request")),
        ({"error": {}}, ErrorDetail(400, "Bad Request")),
        ({"error": "text"}, ErrorDetail(400, "text")),
        ({"error": None}, ErrorDetail(400, "Bad Request")),
        ({"error": [1]}, ErrorDetail(400, "Bad Request")),
        ({"message": "no"}, ErrorDetail(400, "Bad Request")),
        ([], ErrorDetail(400, "Bad Request")),
        (None, ErrorDetail(400, "Bad Request")),
        ("text", ErrorDetail(400, "Bad Request")),
    ],
)
def test_a_refusal_of_any_shape_is_read_as_far_as_it_goes(value: JSON, detail: ErrorDetail) -> None:
    error = refused(value)
    assert error.data == ErrorData(detail)
    assert error.message == detail.message
    assert error.body == json.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        {"error": {"message": "no"}, "user_id": 7, "openrouter_metadata": "odd"},
        {"error": {"message": "no"}, "user_id": None, "openrouter_metadata": None},
    ],
)
def test_odd_company_of_a_refusal_is_left_out(value: JSON) -> None:
    assert refused(value).data == ErrorData(ErrorDetail(400, "no"))


@in_one_test("status, message", [(502, "Bad Gateway"), (404, "Not Found"), (520, "no message")])
@in_one_test("raw", [b"", b"<html><h1>502</h1></html>", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_leaves_the_statuss_own_words(
    status: int, message: str, raw: bytes
) -> None:
    error = refusal(answer(raw, status))
    assert (error.message, error.data) == (message, ErrorData(ErrorDetail(status, message)))
    assert error.body == raw.decode(errors="replace")


@pytest.mark.parametrize(
    "template",
    [
        '{"error": "%s"}',
        '{"error": {"message": "%s"}}',
        '{"error": {"message": "no", "metadata": {"sent": ["%s"]}}}',
        '{"error": {"code": "%s", "message": "no"}, "user_id": "%s"}',
        "<html>%s</html>",
    ],
)
def test_a_refusal_never_shows_a_secret(template: str) -> None:
    for secret in (SECRET, PARTNER_SECRET):
        raw = template.replace("%s", f"refused {secret}!").encode()
        error = refusal(answer(raw, 400), (PARTNER_SECRET,))
        shown = f"{error} {error!r} {error.body} {error.data} {error.args} {error.message}"
        assert secret not in shown
        assert "refused" in error.body


def test_a_refusal_never_shows_a_secret_that_json_escapes() -> None:
    for secret in (SECRET, PARTNER_SECRET):
        hidden = "".join(f"\\u{ord(each):04x}" for each in secret)
        raw = f'{{"error": {{"message": "refused {hidden}!"}}}}'.encode()
        error = refusal(answer(raw, 400), (PARTNER_SECRET,))
        assert secret not in f"{error} {error.body} {error.data}"
        assert hidden not in error.body
        assert error.message.startswith("refused ")


@patient
@given(st.binary(), st.integers(300, 599))
def test_any_bytes_of_a_refusal_make_an_error_of_its_status(raw: bytes, status: int) -> None:
    error = refusal(answer(raw, status))
    assert error.message
    assert error.__context__ is None


@in_one_test(
    "error, kind",
    [
        ({"code": 404, "message": "no"}, errors.NotFoundResponseError),
        ({"code": 429, "message": "no"}, errors.TooManyRequestsResponseError),
        ({"code": 502, "message": "no"}, errors.OpenRouterDefaultError),
        ({"code": "404", "message": "no"}, errors.OpenRouterDefaultError),
        ({"message": "no"}, errors.OpenRouterDefaultError),
        ("no", errors.OpenRouterDefaultError),
    ],
)
@in_one_test("status", [200, 202])
def test_the_code_of_an_error_under_a_successs_status_decides(
    status: int, error: JSON, kind: type[errors.OpenRouterError]
) -> None:
    refused = refusal(answer(json.dumps({"error": error}).encode(), status))
    assert (type(refused), refused.message) == (kind, "no")


@pytest.mark.parametrize(
    ("error", "message"),
    [({"code": 404}, "Not Found"), ({"code": "odd"}, "no message"), ({"code": 1e9}, "no message")],
)
def test_an_error_that_says_nothing_of_itself_is_named_by_its_code(
    error: JSON, message: str
) -> None:
    assert refusal(answer(json.dumps({"error": error}).encode(), 200)).message == message


OWN_404 = b'{"error": {"code": 404, "message": "Resource not found"}}'


@in_one_test(
    "status, raw, own",
    [
        (404, OWN_404, True),
        (404, OWN_404[:-1] + b', "user_id": null}', True),
        (404, b'{"error": {"code": 404, "message": "x", "metadata": {"a": 1}}}', True),
        (404, b'{"error": {"code": 404, "message": null}}', False),
        (404, b'{"error": {"code": "404", "message": "x"}}', False),
        (404, b'{"error": {"code": 404.0, "message": "x"}}', False),
        (404, b'{"error": {"code": 500, "message": "x"}}', False),
        (404, b'{"error": {"message": "Resource not found"}}', False),
        (404, b'{"error": "Resource not found"}', False),
        (404, b'{"message": "no Route matched with those values"}', False),
        (404, b"[404]", False),
        (404, b"<html>404</html>", False),
        (404, b"", False),
        (410, OWN_404, False),
        (500, OWN_404, False),
        (200, OWN_404, False),
    ],
)
def test_only_the_apis_own_404_says_that_there_is_no_such_key(
    status: int, raw: bytes, own: bool
) -> None:
    error = refusal(answer(raw, status))
    error.status_code = status
    assert is_api_404(error) is own
    error.headers = CIMultiDict({"age": "0"})
    assert is_api_404(error) is own
    error.headers = CIMultiDict({"age": "1"})
    assert not is_api_404(error)


def test_half_a_surrogate_pair_in_a_message_can_be_printed() -> None:
    error = refusal(answer(b'{"error": {"message": "odd: \\ud800"}}', 400))
    assert str(error).encode()
