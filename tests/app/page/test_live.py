"""An update of a growing answer carries its end alone, however long it is."""

from types import SimpleNamespace
from typing import Any

from app.job import JobView
from app.page.live import NUM_BLOCKS, LiveAnswer
from app.render import Renderer
from app.strings import Strings


def answer() -> LiveAnswer:
    conversation = SimpleNamespace(choices={})
    job: Any = SimpleNamespace(reply_id=7, key="k", task=SimpleNamespace(conversation=conversation))
    return LiveAnswer(job, Renderer(), Strings.load("en"))


def written(num_paragraphs: int, thinking: str = "") -> JobView:
    text = "\n\n".join(f"Paragraph {n}." for n in range(num_paragraphs))
    return JobView(phase="writing", text=thinking + text)


def test_the_first_value_is_whole_and_the_later_ones_fit_onto_it() -> None:
    live = answer()
    shown: list[Any] = []
    for count in range(1, 60):
        value: Any = live.value(written(count))
        assert len(value["blocks"]) <= NUM_BLOCKS
        shown[value["first"] :] = value["blocks"]
        assert len(shown) == count - 1
    assert shown == [f"<p>Paragraph {n}.</p>\n" for n in range(58)]
    late: Any = answer().value(written(59))  # a page that comes in the middle gets all of it
    assert (late["first"], late["tail"]) == (0, value["tail"])
    assert "".join(late["blocks"]) == "".join(shown)


def test_thinking_is_told_apart_while_it_grows() -> None:
    live = answer()
    value: Any = live.value(JobView(phase="writing", text="<think>So **this**"))
    assert value["thought"]["label"] == "Thinking… 11 characters"
    assert "<strong>" in value["thought"]["tail"] and value["tail"] == ""
    value = live.value(written(2, thinking="<think>So **this**</think>"))
    assert value["thought"]["label"] == "Thought, 11 characters"
    assert value["blocks"] == ["<p>Paragraph 0.</p>\n"]
