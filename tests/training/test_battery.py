"""The battery of questions: large, stable, and told in every card."""

from __future__ import annotations

import pytest

from training.battery import battery, begins_with_number, items, loops, number, says
from training.chat import BUNDLED
from training.evaluate import renew, table, try_case


def test_the_battery_is_large_and_stable() -> None:
    cases = battery()
    assert len(cases) >= 300 and len({case.kind for case in cases}) >= 15
    assert [case.turns for case in cases] == [case.turns for case in battery()]


def test_no_battery_question_passes_on_an_empty_or_endless_reply() -> None:
    for case in battery():
        assert not try_case(case, lambda _messages: ("", True)).right, case.turns
    assert loops("I am here. " * 5) and loops("no no no no no")
    assert not loops("One, two, three. The cat sat and the dog sat and all was well.")


def test_the_checks_read_replies_as_a_person_would() -> None:
    assert number(12)("5 plus 7 is 12.") and not number(12)("12 is 13")
    assert items(3)("- Apple\n- Pear\n- Plum") and items(3)("Apple, pear and plum.")
    assert not items(3)("Apple and pear.")
    assert begins_with_number(9)("9 is bigger than 7.")
    assert not begins_with_number(9)("7 is smaller than 9.")
    assert says("Paris")("It is Paris.") and not says("Paris")("It is Parisian.")


def test_the_table_counts() -> None:
    case = next(case for case in battery() if case.kind == "capitals")
    result = try_case(case, lambda _messages: ("Paris is the capital of France.", True))
    assert result.right and "| capitals | 1 (100%) | 1 |" in table([result])


def test_a_new_table_takes_the_place_of_the_old_one_in_a_card() -> None:
    card = "# Model\n\n| kind | right |\n| --- | --- |\n| sums | 1 |\n| lists | 2 |\n\nEnd.\n"
    new = "| kind | right |\n| --- | --- |\n| sums | 3 |"
    assert renew(card, new) == f"# Model\n\n{new}\n\nEnd.\n"
    with pytest.raises(ValueError, match="other heading"):
        renew(card, "| other heading |\n| --- |")


def test_the_card_of_the_bundled_model_has_both_tables() -> None:
    card = (BUNDLED / "README.md").read_text(encoding="utf-8")
    for heading in ("| kind | right | of |", "| held-out rows of | bits per byte | replies |"):
        assert card.count(heading) == 1
