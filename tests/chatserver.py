"""A server on loopback that speaks the OpenAI API, as a teacher and a judge are asked: its answers come from a function."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "teacher"


@dataclass(frozen=True)
class Reply:
    """What is sent back: the text of an answer, or a status, headers and body of any other kind."""

    text: str | None = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    after_seconds: float = 0.0


Answering = Callable[[str], Reply | str]


@dataclass
class ChatServer:
    """What was asked, and what is answered from now on; `key` is asked for where it is not empty."""

    answering: Answering
    url: str = ""
    key: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def asked(self) -> list[str]:
        """The user's messages, in the order of their coming."""
        return [request["messages"][-1]["content"] for request in self.requests]

    def reply(self, authorization: str | None, path: str, raw: bytes) -> Reply:
        """As a server of the API answers."""
        if self.key and authorization != f"Bearer {self.key}":
            return _error(401, "Incorrect API key provided")
        if path != "/v1/chat/completions":
            return _error(404, f"no such path: {path}")
        request = json.loads(raw)
        if request["model"] != MODEL:
            return _error(404, f"The model `{request['model']}` does not exist.")
        with self._lock:
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            said = self.answering(request["messages"][-1]["content"])
            found = said if isinstance(said, Reply) else Reply(said)
            time.sleep(found.after_seconds)
        finally:
            with self._lock:
                self._at_once -= 1
        return found


def _error(status: int, message: str) -> Reply:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}})
    return Reply(status=status, body=body.encode())


def _completion(text: str | None) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"object": "chat.completion", "model": MODEL, "choices": [choice]}).encode()


@contextmanager
def chat_server(answering: Answering, *, key: str = "") -> Iterator[ChatServer]:
    """A server for as long as this lasts."""
    state = ChatServer(answering, key=key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            reply = state.reply(self.headers.get("Authorization"), self.path, raw)
            body = _completion(reply.text) if reply.body is None else reply.body
            try:
                self.send_response(reply.status)
                for name, value in {
                    "Content-Length": str(len(body)),
                    "Content-Type": "application/json",
                    **reply.headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # nobody waits any more
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as the base class has it
            """Nothing: requests are in `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
