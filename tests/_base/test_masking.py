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
@given(st.text(min_size=1))
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


def test_a_known_secret_is_masked_whatever_it_looks_like() -> None:
    text = scrub(f"refused: {PARTNER_SECRET}, {PARTNER_SECRET}", PARTNER_SECRET, "")
    assert PARTNER_SECRET not in text
    assert text.startswith("refused: ")


@pytest.mark.parametrize("text", ["sk-or-v1-0e6...1c96", "Resource not found", "sk-or-v1", ""])
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert scrub(text) == text


@pytest.mark.slow
@patient
@given(st.text(), st.text())
def test_no_text_around_a_secret_keeps_it_from_being_masked(before: str, after: str) -> None:
    assert SECRET not in scrub(before + SECRET + after)
