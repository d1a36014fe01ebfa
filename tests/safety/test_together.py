"""Questions that wait at the same time are answered in one pass, each with its own answer."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from safety.together import Together, at_once
from tests.safety.device import Device


class Doubling:
    """Twice each number; notes how many came together."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.sizes.append(len(numbers))
        if 13 in numbers:
            raise MemoryError
        return [2 * number for number in numbers]


def asked_together(together: Together, device: Device, questions: list[list[int]]) -> list:
    with ThreadPoolExecutor(len(questions)) as threads:
        answers = [threads.submit(together.ask, one) for one in questions]
        device.begin(len(questions))
        return [answer.exception() or answer.result() for answer in answers]


def test_those_who_wait_together_go_in_one_pass():
    compute, device = Doubling(), Device()
    together = Together(compute, device.run, most=8)
    assert asked_together(together, device, [[1], [2, 3], [4]]) == [[2], [4, 6], [8]]
    assert compute.sizes == [4]


def test_a_pass_is_no_larger_than_allowed_and_everybody_is_answered():
    compute, device = Doubling(), Device()
    together = Together(compute, device.run, most=3)
    questions = [[number, number + 100] for number in range(5)]
    answers = asked_together(together, device, questions)
    assert answers == [[2 * number, 2 * number + 200] for number in range(5)]
    assert compute.sizes == [3, 3, 3, 1]


def test_an_error_reaches_those_of_its_pass_and_nobody_later():
    compute, device = Doubling(), Device()
    together = Together(compute, device.run, most=8)
    failed = asked_together(together, device, [[1], [13]])
    assert [type(error) for error in failed] == [MemoryError, MemoryError]
    assert asked_together(together, device, [[5]]) == [[10]]


def test_too_few_answers_are_an_error():
    with pytest.raises(ValueError, match="one answer"):
        Together(lambda numbers: [], at_once, most=8).ask([1])


def test_without_a_compute_thread_everybody_is_still_answered_rightly():
    compute = Doubling()
    together = Together(compute, at_once, most=2)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: together.ask([number, -number]), range(12)))
    assert answers == [[2 * number, -2 * number] for number in range(12)]
    assert together.ask([]) == []
