"""A small server that speaks the OpenAI-compatible protocol, with faults on request."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


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


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is part of the tests."""


@contextmanager
def serve(state: ServerState) -> Iterator[str]:
    """Serve `state` on a free loopback port; gives the address, `/v1` included."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if self._welcome():
                self._answer(200, {"object": "list", "data": state.models})

        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            request = json.loads(self.rfile.read(size))
            state.requests.append(request)
            if not self._welcome():
                return
            if state.standard_only and (others := request.keys() - _STANDARD):
                self._answer(422, {"detail": f"Unexpected fields in the request: {others}"})
            elif state.limit and state.prompt_tokens + request["max_tokens"] > state.limit:
                self._answer(400, {"error": {"message": self._too_long(request)}})
            else:
                self._stream(request, chat=self.path.endswith("/chat/completions"))

        def _welcome(self) -> bool:
            state.paths.append(self.path)
            state.keys.append(self.headers.get("Authorization") or "")
            if state.statuses and (status := state.statuses.pop(0)) != 200:
                self._answer(status, {"error": {"message": state.message}})
                return False
            if state.key and self.headers.get("Authorization") != f"Bearer {state.key}":
                self._answer(401, {"error": {"message": "Invalid key"}})
                return False
            return True

        def _too_long(self, request: dict[str, Any]) -> str:
            wanted = state.prompt_tokens + request["max_tokens"]
            return (
                f"This model's maximum context length is {state.limit} tokens. However, you "
                f"requested {wanted} tokens ({state.prompt_tokens} in the messages, "
                f"{request['max_tokens']} in the completion). Please reduce the length."
            )

        def _stream(self, request: dict[str, Any], *, chat: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            prefix = []
            if chat and state.echo and request["messages"][-1]["role"] == "assistant":
                prefix = [request["messages"][-1]["content"]]
            try:
                for thought in state.reasoning:
                    self._event(_choice({"reasoning_content": thought}, chat=chat))
                for number, word in enumerate([*prefix, *state.words]):
                    if state.hold is not None:
                        while not state.hold.wait(0.02):
                            self.wfile.write(b"8\r\n: wait\n\n\r\n")  # a comment: finds who left
                    if number == state.cut_after:
                        self.close_connection = True
                        self.connection.close()
                        return
                    if number == state.error_after:
                        self._event({"error": {"message": "CUDA error"}})
                        return
                    self._event(_choice({"content": word}, chat=chat))
                self._event(_choice({}, chat=chat, finish_reason=state.finish_reason))
                if state.usage:
                    details = {"cached_tokens": state.cached_tokens}
                    self._event(
                        {
                            "id": "1",
                            "object": "chat.completion.chunk",
                            "created": 1,
                            "model": "tiny",
                            "choices": [],
                            "usage": {
                                "prompt_tokens": state.prompt_tokens,
                                "completion_tokens": len(state.words),
                                "total_tokens": state.prompt_tokens + len(state.words),
                                "prompt_tokens_details": details,
                            },
                        }
                    )
                self._chunk(b"data: [DONE]\n\n")
                self._chunk(b"")
            except OSError:
                state.left.set()
                self.close_connection = True

        def _event(self, event: dict[str, Any]) -> None:
            self._chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

        def _chunk(self, content: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
            self.wfile.flush()

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
