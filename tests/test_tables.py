"""A table that is gone through in one test hides no case."""

import pytest

from tests.tables import in_one_test


@pytest.mark.parametrize("failing", [[], [0], [2], [0, 1, 2]])
def test_every_case_is_asked_and_each_that_fails_is_named(failing: list[int]) -> None:
    asked: list[tuple[int, str]] = []

    @in_one_test("number", range(3))
    @in_one_test("word", ["even", "odd"])
    def test(number: int, word: str) -> None:
        asked.append((number, word))
        if word == "odd" and number in failing:
            pytest.fail("no")
        assert word == "odd" or number not in failing

    told: list[str] = []
    try:
        test()
    except (AssertionError, pytest.fail.Exception, BaseExceptionGroup) as error:
        pending: list[BaseException] = [error]
        while pending:
            one = pending.pop()
            told += getattr(one, "__notes__", [])
            pending += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
    assert asked == [(number, word) for number in range(3) for word in ("even", "odd")]
    for number in range(3):
        assert (f"the case: number = {number}" in told) == (number in failing)
    assert ("the case: word = 'even'" in told) == ("the case: word = 'odd'" in told)
    assert ("the case: word = 'odd'" in told) == bool(failing)
