"""A guard on another machine, behind an OpenAI-compatible address. It fails closed.

Two layouts: a moderation endpoint (`.../v1/moderations`), whose category scores are mapped to ours,
and a server that runs a Llama Guard (`.../v1/chat/completions`, with log-probabilities), which is
scored by its first token. What is judged leaves this machine: the page says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import httpx

from safety.base import GuardBroken, Verdict

_TIMEOUT_SECONDS = 8.0
# Category names of OpenAI's moderation endpoint, by its documentation.
_MODERATION: Mapping[str, str] = {
    "sexual": "sexual_content",
    "sexual/minors": "child_exploitation",
    "harassment/threatening": "violent_crimes",
    "hate": "hate",
    "hate/threatening": "hate",
    "illicit": "non_violent_crimes",
    "illicit/violent": "violent_crimes",
    "self-harm": "self_harm",
    "self-harm/intent": "self_harm",
    "self-harm/instructions": "self_harm",
    "violence": "violent_crimes",
    "violence/graphic": "violent_crimes",
}


class RemoteGuard:
    """Asks a server for each judgement. Safe to call from several threads."""

    version = "remote"

    def __init__(
        self,
        address: str,
        *,
        model: str = "",
        key: str = "",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`address` is the whole endpoint; `model` may stand behind `#` in it.

        Raises `GuardBroken` for an address that is none of the two layouts.
        """
        address, _, named = address.partition("#")
        if not address.endswith(("/moderations", "/chat/completions")):
            raise GuardBroken(
                "The address of a remote guard ends in /v1/moderations or /v1/chat/completions."
            )
        self.name = f"remote-{httpx.URL(address).host}"
        self._address = address
        self._model = model or named
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(
            timeout=_TIMEOUT_SECONDS, headers=headers, transport=transport, trust_env=False
        )

    def judge(self, prompt: str, reply: str | None = None) -> Verdict:
        """Judge by the server; whatever it does not answer rightly is a failure."""
        started = time.perf_counter()
        try:
            if self._address.endswith("/moderations"):
                score, scores = self._moderated(prompt if reply is None else reply)
            else:
                score, scores = self._asked(prompt, reply)
        except Exception as error:  # fail closed, whatever a server may send
            reason = f"{self.name} did not answer ({type(error).__name__})."
            seconds = time.perf_counter() - started
            return Verdict.failure(reason, guard=self.name, version=self.version, seconds=seconds)
        seconds = time.perf_counter() - started
        return Verdict(score, scores, self.name, self.version, seconds)

    def _moderated(self, text: str) -> tuple[float, Mapping[str, float]]:
        result = self._post({"input": text})["results"][0]
        given: Mapping[str, float] = result["category_scores"]
        scores: dict[str, float] = {}
        for name, value in given.items():
            if name in _MODERATION:
                key = _MODERATION[name]
                scores[key] = max(scores.get(key, 0.0), float(value))
        if not scores:
            raise ValueError("no category that is known")
        return max(float(value) for value in given.values()), scores

    def _asked(self, prompt: str, reply: str | None) -> tuple[float, Mapping[str, float]]:
        messages = [{"role": "user", "content": prompt}]
        if reply is not None:
            messages.append({"role": "assistant", "content": reply})
        body = {
            "messages": messages,
            "max_tokens": 3,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 20,
        }
        tokens = self._post(body)["choices"][0]["logprobs"]["content"]
        said = next(token for token in tokens if str(token["token"]).strip())
        chances = {"safe": 0.0, "unsafe": 0.0}
        for option in [said, *said.get("top_logprobs", [])]:
            word = str(option["token"]).strip()
            if word in chances:
                chances[word] = max(chances[word], math.exp(float(option["logprob"])))
        return chances["unsafe"] / (chances["safe"] + chances["unsafe"]), {}

    def _post(self, body: dict[str, Any]) -> Any:
        if self._model:
            body["model"] = self._model
        response = self._client.post(self._address, json=body)
        response.raise_for_status()
        return response.json()
