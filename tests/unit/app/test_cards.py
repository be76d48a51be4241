"""The cards that the settings name."""

import pytest

from app.cards import USUAL, read_cards
from app.settings import FrontEndSettings
from scheduler.replay import Card


@pytest.mark.parametrize("text", ["", "  "])
def test_without_any_there_are_some_usual_ones(text: str) -> None:
    assert read_cards(text) == USUAL


def test_a_card_has_what_was_said() -> None:
    text = '{"A": {"memory_bytes": 1000, "relative_speed": 2, "price": 3, "hour": 0.5}, "B": {"memory_bytes": 7}}'
    assert read_cards(text) == [Card("A", 1000, 2.0, 3.0, 0.5), Card("B", 7)]
    assert read_cards("{}") == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[]", "object"),
        ('{"A": {}}', "A.memory_bytes"),
        ('{"A": {"memory_bytes": 0}}', "A.memory_bytes"),
        ('{"A": {"memory_bytes": 1, "speed": 2}}', "A.speed"),
        ('{"A": {"memory_bytes": 1, "relative_speed": 0}}', "A.relative_speed"),
        ("{" + ", ".join(f'"{number}": {{"memory_bytes": 1}}' for number in range(65)) + "}", "at most 64 cards"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(text: str, where: str) -> None:
    with pytest.raises(ValueError, match=where) as refused:
        read_cards(text)
    assert "\n" not in str(refused.value)


def test_a_table_of_a_file_is_as_good_as_text() -> None:
    settings = FrontEndSettings.model_validate({"cards": {"A": {"memory_bytes": 1000}}})
    assert read_cards(settings.cards) == [Card("A", 1000)]
