import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrouter_keys._base.masking import mask, scrub
from tests.records import PARTNER_SECRET, SECRET, patient


def test_a_secret_shows_as_the_services_own_labels_do() -> None:
    assert mask("sk-or-v1-0e6" + "0" * 57 + "1c96") == "sk-or-v1-0e6...1c96"


def test_of_another_kind_of_secret_only_the_end_shows() -> None:
    assert mask("a-partners-own-key-of-its-own-make") == "...make"


@pytest.mark.parametrize(("secret", "shown"), [("", "..."), ("a" * 19, "..."), (None, "None")])
def test_what_is_too_short_to_be_masked_in_part_shows_nothing(
    secret: str | None, shown: str
) -> None:
    assert mask(secret) == shown


@pytest.mark.slow
@patient
@given(st.text(min_size=1) | st.text(min_size=20))
def test_no_secret_shows_whole(secret: str) -> None:
    assert mask(secret) != secret or secret == "..."


@pytest.mark.parametrize(
    "secret",
    [SECRET, "sk-or-mgmt-" + "9" * 64, "sk-or-v9-" + "Ab_-" * 16],
    ids=["created", "management", "yet to come"],
)
def test_whatever_looks_like_a_key_is_masked_in_a_text(secret: str) -> None:
    text = scrub(f'{{"key":"{secret}"}} and again {secret}.')
    assert text == f'{{"key":"{mask(secret)}"}} and again {mask(secret)}.'


@pytest.mark.parametrize(
    "before",
    ["", "a", "9", "_", "-", "=", "\n", r"\n", r"\t", "%20", r"\x20", r"\u0020", "key:", "/"],
)
def test_a_secret_is_masked_behind_whatever_stands_before_it(before: str) -> None:
    assert scrub(before + SECRET) == before + mask(SECRET)
    if not before.isalnum():
        assert "mgmt-0123" not in scrub(f"{before}sk-or-mgmt-0123456789abcdef")


def test_known_secrets_are_masked_at_once_and_the_longest_first() -> None:
    assert scrub("ann:... and annie", "ann", "annie:", "ann:...") == "... and annie"
    assert scrub('{"code": "code"} x-code-y codec', "code") == '{"code": "..."} x-...-y codec'
    dots = scrub("1.2.3. " * 1000, *["."] * 16)
    assert len(dots) <= 3 * 7000


def test_a_known_secret_is_masked_whatever_it_looks_like() -> None:
    text = scrub(f"refused: {PARTNER_SECRET}, {PARTNER_SECRET}", PARTNER_SECRET, "")
    assert PARTNER_SECRET not in text
    assert text.startswith("refused: ")


@pytest.mark.parametrize(
    "text",
    [
        "sk-or-v1-0e6...1c96",
        "Resource not found",
        "sk-or-v1",
        "",
        "risk-or-compliance-dashboard",
        "/home/ann/desk-or-customers-november.csv",
        "Task-or-else-a-longer-name",
        "ask-or-v1-customers-of-november",
        "0sk-or-else-a-longer-name",
    ],
)
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert scrub(text) == text


@pytest.mark.slow
@patient
@given(st.text(), st.text())
def test_no_text_around_a_secret_keeps_it_from_being_masked(before: str, after: str) -> None:
    assert SECRET not in scrub(before + SECRET + after)
