"""A small server that speaks the OpenAI-compatible protocol, with faults on request."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.local_http import Handler, serving


@dataclass
class ServerState:
    """What the server says and how it misbehaves."""

    words: list[str] = field(default_factory=lambda: ["Hello", " there", ",", " friend", "."])
    models: list[dict[str, Any]] = field(
        default_factory=lambda: [{"id": "tiny", "object": "model", "max_model_len": 512}]
    )
    key: str = ""  # asked for if set
    finish_reason: str = "stop"
    prompt_tokens: int = 11
    cached_tokens: int = 4
    statuses: list[int] = field(default_factory=list)  # answers to the next requests
    message: str = "busy"  # of those answers
    standard_only: bool = False  # refuses other fields than OpenAI's, as `transformers serve` does
    limit: int = 0  # of prompt and max_tokens together, refused as vLLM does
    echo: bool = False  # begins a continued answer with what it was given
    reasoning: list[str] = field(default_factory=list)
    cut_after: int | None = None  # words, then the connection is lost
    error_after: int | None = None  # words, then an error within the stream
    usage: bool = True
    hold: threading.Event | None = None  # waited for before each word
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)  # a client went away


_STANDARD = {
    *("model", "messages", "prompt", "stream", "stream_options", "max_tokens", "temperature"),
    *("top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "logit_bias"),
}


class _Server(Handler):
    state: ServerState

    def do_GET(self) -> None:
        if self._welcome():
            self._json(200, {"object": "list", "data": self.state.models})

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        request = json.loads(self.rfile.read(size))
        self.state.requests.append(request)
        if not self._welcome():
            return
        wanted = self.state.prompt_tokens + request.get("max_tokens", 0)
        if self.state.standard_only and (others := request.keys() - _STANDARD):
            self._json(422, {"detail": f"Unexpected fields in the request: {others}"})
        elif self.state.limit and wanted > self.state.limit:
            self._json(400, {"error": {"message": self._too_long(request, wanted)}})
        else:
            self._stream(request, chat=self.path.endswith("/chat/completions"))

    def _welcome(self) -> bool:
        self.state.paths.append(self.path)
        self.state.keys.append(self.headers.get("Authorization") or "")
        if self.state.statuses and (status := self.state.statuses.pop(0)) != 200:
            self._json(status, {"error": {"message": self.state.message}})
            return False
        if self.state.key and self.headers.get("Authorization") != f"Bearer {self.state.key}":
            self._json(401, {"error": {"message": "Invalid key"}})
            return False
        return True

    def _too_long(self, request: dict[str, Any], wanted: int) -> str:
        return (
            f"This model's maximum context length is {self.state.limit} tokens. However, you "
            f"requested {wanted} tokens ({self.state.prompt_tokens} in the messages, "
            f"{request['max_tokens']} in the completion). Please reduce the length."
        )

    def _stream(self, request: dict[str, Any], *, chat: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        prefix = []
        if chat and self.state.echo and request["messages"][-1]["role"] == "assistant":
            prefix = [request["messages"][-1]["content"]]
        try:
            for thought in self.state.reasoning:
                self._event(_choice({"reasoning_content": thought}, chat=chat))
            if self._say([*prefix, *self.state.words], chat=chat):
                self._end(chat=chat)
        except OSError:
            self.state.left.set()
            self.close_connection = True

    def _say(self, words: Sequence[str], *, chat: bool) -> bool:
        """Send `words` → whether none of the faults that were asked for came between."""
        for number, word in enumerate(words):
            if self.state.hold is not None:
                while not self.state.hold.wait(0.02):
                    self.wfile.write(b"8\r\n: wait\n\n\r\n")  # a comment: finds who left
            if number == self.state.cut_after:
                self.close_connection = True
                self.connection.close()
                return False
            if number == self.state.error_after:
                self._event({"error": {"message": "CUDA error"}})
                return False
            self._event(_choice({"content": word}, chat=chat))
        return True

    def _end(self, *, chat: bool) -> None:
        self._event(_choice({}, chat=chat, finish_reason=self.state.finish_reason))
        if self.state.usage:
            num_prompt, num_new = self.state.prompt_tokens, len(self.state.words)
            usage = {
                "prompt_tokens": num_prompt,
                "completion_tokens": num_new,
                "total_tokens": num_prompt + num_new,
                "prompt_tokens_details": {"cached_tokens": self.state.cached_tokens},
            }
            last = _choice({}, chat=True)
            self._event({**last, "choices": [], "usage": usage})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _event(self, event: dict[str, Any]) -> None:
        self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self.answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


@contextmanager
def serve(state: ServerState) -> Iterator[str]:
    """Serve `state` on a free loopback port; gives the address, `/v1` included."""
    with serving(_Server, state=state) as port:
        yield f"http://127.0.0.1:{port}/v1"


def _choice(
    delta: dict[str, Any], *, chat: bool, finish_reason: str | None = None
) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish_reason}
    if chat:
        choice["delta"] = delta
    else:
        choice["text"] = delta.get("content", "")
    return {
        "id": "1",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": 1,
        "model": "tiny",
        "choices": [choice],
    }
