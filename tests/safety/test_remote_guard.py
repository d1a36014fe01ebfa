"""A guard behind an address: scored by numbers, and closed whatever a server may answer."""

import json
import math

import httpx
import pytest

from safety.base import GuardBroken
from safety.remote_guard import RemoteGuard

CHAT = "http://127.0.0.1:9/v1/chat/completions"
MODERATION = "http://127.0.0.1:9/v1/moderations"


def guard(address, answer, status=200):
    def respond(request):
        respond.asked = json.loads(request.content)
        return httpx.Response(status, content=answer if isinstance(answer, bytes) else None,
                              json=None if isinstance(answer, bytes) else answer)  # fmt: skip

    return RemoteGuard(address, model="lg", transport=httpx.MockTransport(respond)), respond


def test_a_llama_guard_server_is_scored_by_its_first_token():
    top = [
        {"token": "unsafe", "logprob": math.log(0.6)},
        {"token": "safe", "logprob": math.log(0.2)},
    ]
    said = {"token": "safe", "logprob": math.log(0.2), "top_logprobs": top}
    tokens = [{"token": "\n\n", "logprob": 0.0}, said]
    asked, respond = guard(CHAT, {"choices": [{"logprobs": {"content": tokens}}]})
    assert asked.judge("Hi", "There").score == pytest.approx(0.75)
    assert [m["role"] for m in respond.asked["messages"]] == ["user", "assistant"]


def test_a_moderation_server_gives_our_categories():
    scores = {"violence": 0.7, "self-harm": 0.1, "sexual/minors": 0.01, "unknown": 0.2}
    asked, respond = guard(MODERATION, {"results": [{"category_scores": scores}]})
    verdict = asked.judge("Hi")
    assert verdict.score == 0.7
    assert verdict.scores == {"violent_crimes": 0.7, "self_harm": 0.1, "child_exploitation": 0.01}
    assert respond.asked == {"input": "Hi", "model": "lg"}


@pytest.mark.parametrize("address", [CHAT, MODERATION])
@pytest.mark.parametrize(
    ("answer", "status"),
    [({}, 200), ([], 200), (b"<html>", 200), (b"", 200), ({"results": []}, 200), ({"x": 1}, 500),
     ({"results": [{"category_scores": {"else": 1}}]}, 200), ({"choices": [{}]}, 200),
     ({"choices": [{"logprobs": {"content": [{"token": "maybe", "logprob": 0}]}}]}, 200)],
)  # fmt: skip
def test_it_fails_closed(address, answer, status):
    assert guard(address, answer, status)[0].judge("Hi").failed


def test_nobody_there_is_a_failure():
    assert RemoteGuard("http://127.0.0.1:9/v1/moderations").judge("Hi").failed


def test_another_address_is_refused():
    with pytest.raises(GuardBroken, match="/v1/moderations"):
        RemoteGuard("http://127.0.0.1:9/")
