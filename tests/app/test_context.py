"""What the model sees of a conversation: which turns, and how they are made to fit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.context import (
    KEEP_WHEN_DROPPING,
    SHORTEST_REPLY,
    ConversationFull,
    Fitted,
    Overflow,
    as_messages,
    fit,
    with_draft,
)
from engine.base import Message
from engine.errors import ContextFull
from storage.records import Generation, MessageRecord, Role, Status, VerdictRecord


def record(
    id: int,
    role: Role,
    content: str,
    status: Status = "done",
    generations: Sequence[Generation] = (),
    judged: bool = True,
) -> MessageRecord:
    verdicts = (
        [VerdictRecord("prompt", "g", "1", "allow", 0.1)] if judged and role == "user" else []
    )
    return MessageRecord(
        id, 1, id - 1 or None, role, status, content, 0, 0,
        generations=generations, verdicts=verdicts,
    )  # fmt: skip


def run(num_left_out: int = 0, token_ids: Sequence[int] = (), print_: str = "p") -> Generation:
    return Generation(
        "m", print_, "cpu", "fp32", {}, 0, 1, 0, 1, 0.0, 0.0, 0.0, 0.0, "stop",
        num_left_out=num_left_out, token_ids=token_ids,
    )  # fmt: skip


def words(messages: Sequence[Message]) -> int:
    return sum(len(message["content"].split()) + 2 for message in messages)


def chat(num_turns: int, num_words: int = 8, num_left_out: int = 0) -> list[MessageRecord]:
    """`num_turns` answered turns and one prompt to answer; 2 × (num_words + 2) tokens a turn."""
    path = []
    for turn in range(num_turns):
        path.append(record(2 * turn + 1, "user", "w " * num_words))
        left_out = [run(num_left_out)] if turn == num_turns - 1 else []
        path.append(record(2 * turn + 2, "assistant", "w " * num_words, generations=left_out))
    return [*path, record(2 * num_turns + 1, "user", "w " * num_words)]


def fitted(
    path: Sequence[MessageRecord], room: int, num_reserved: int = 0, overflow: Overflow = "drop"
) -> Fitted:
    """Fit into `room` tokens beside the shortest reply."""
    return fit(
        path,
        system_prompt="",
        count_tokens=words,
        context_length=room + SHORTEST_REPLY,
        num_reserved=num_reserved,
        overflow=overflow,
    )


def test_everything_stays_while_it_fits() -> None:
    path = chat(4)
    whole = fitted(path, 90)
    assert whole.num_left_out == 0
    assert [message["role"] for message in whole.messages] == ["user", "assistant"] * 4 + ["user"]
    assert whole.num_tokens == 90


def test_whole_oldest_turns_go_and_leave_room_for_more() -> None:
    path = chat(4)
    cut = fitted(path, 89)
    assert cut.num_left_out % 2 == 0 and cut.num_left_out > 0
    assert cut.messages[0]["role"] == "user"
    assert cut.num_tokens <= 89 * KEEP_WHEN_DROPPING
    assert list(cut.messages) == as_messages(path[cut.num_left_out :])


def test_the_cut_stays_where_it_was_until_it_no_longer_fits() -> None:
    path = chat(5, num_left_out=4)
    assert fitted(path, 100).num_left_out == 4  # everything but 4 fits: no earlier, no later
    assert fitted(path, 60).num_left_out > 4


def test_the_system_prompt_stays_whatever_goes() -> None:
    cut = fit(
        chat(6),
        system_prompt="be brief",
        count_tokens=words,
        context_length=80 + SHORTEST_REPLY,
        num_reserved=10,
    )
    assert cut.messages[0] == {"role": "system", "content": "be brief"}
    assert cut.num_left_out > 0


def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers() -> None:
    with pytest.raises(ContextFull) as refused:
        fitted([record(1, "user", "w " * 99)], 100)
    assert (refused.value.num_prompt, refused.value.context_length) == (101, 100 + SHORTEST_REPLY)


def test_a_long_prompt_may_use_the_room_reserved_for_the_reply() -> None:
    whole = fitted([record(1, "user", "w " * 98)], 100, num_reserved=90)
    assert whole.num_tokens == 100


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        pytest.param(
            [
                record(1, "user", "bad", "blocked"),
                record(2, "assistant", "", "blocked"),
                record(3, "user", "good"),
            ],
            [("user", "good")],
            id="a refused prompt never enters",
        ),
        pytest.param(
            [
                record(1, "user", "tell"),
                record(2, "assistant", "The fir", "cut"),
                record(3, "user", "go on"),
            ],
            [("user", "tell"), ("assistant", "The fir"), ("user", "go on")],
            id="a cut answer enters as far as it was shown",
        ),
        pytest.param(
            [
                record(1, "user", "provoke"),
                record(2, "assistant", "", "cut"),
                record(3, "user", "hello"),
            ],
            [("user", "hello")],
            id="a prompt whose answer was cut to nothing stays out",
        ),
        pytest.param(
            [
                record(1, "user", "never judged", judged=False),
                record(2, "assistant", "", "interrupted"),
                record(3, "user", "hello"),
            ],
            [("user", "hello")],
            id="a prompt that no guard has seen never enters",
        ),
        pytest.param(
            [
                record(1, "user", "I am Ada"),
                record(2, "assistant", "", "stopped"),
                record(3, "user", "Who am I?"),
            ],
            [("user", "I am Ada\n\nWho am I?")],
            id="an unanswered prompt is not lost",
        ),
    ],
)
def test_what_of_a_path_is_seen(
    path: Sequence[MessageRecord], seen: Sequence[tuple[str, str]]
) -> None:
    assert [(m["role"], m["content"]) for m in as_messages(path)] == list(seen)


def test_a_reply_carries_its_token_ids_to_the_model_that_wrote_it_only() -> None:
    path = [
        record(1, "user", "hi"),
        record(2, "assistant", "hello", generations=[run(token_ids=(5, 6)), run(token_ids=(7,))]),
        record(3, "user", "more"),
    ]
    assert as_messages(path, "p")[1].get("ids") == [5, 6, 7]
    assert "ids" not in as_messages(path, "another model")[1]


def test_a_conversation_stops_where_nothing_may_be_left_out() -> None:
    path = chat(4, num_left_out=4)
    assert fitted(path, 90, overflow="stop").num_left_out == 0
    with pytest.raises(ConversationFull):
        fitted(path, 89, overflow="stop")
    with pytest.raises(ContextFull):  # the newest prompt alone: no choice would help
        fitted([record(1, "user", "w " * 80)], 40, overflow="stop")


def test_a_draft_counts_as_it_will_when_it_is_sent() -> None:
    path = chat(2)
    drafted = with_draft(path[:-1], "w " * 8)
    assert fitted(drafted, 90).num_tokens == fitted(path, 90).num_tokens
    assert as_messages(with_draft([], "hello")) == [{"role": "user", "content": "hello"}]
