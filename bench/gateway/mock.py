"""An engine that costs nothing, and an API server with one table: what the data plane is measured against.

Answers are written by hand on a bare protocol, so that the time of a direct request is that of two
system calls, and what a gateway adds is not hidden behind it.
"""

import asyncio
import json
import re
import sys
from typing import Final, cast

import httptools
import uvloop

MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"]*)"')
CHUNKS: Final = 50
ANSWER: Final = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"%b","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Return the current file descriptor for the string."},'
    b'"logprobs":{"token_logprobs":[-1.5]},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":120,"total_tokens":132,"completion_tokens":12}}'
)
EVENT: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"%b",'
    b'"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n'
)
HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


class Engine(asyncio.Protocol):
    """One connection."""

    table = b"{}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        url, body = self._url, self._body
        self._url = self._body = b""
        if url.startswith((b"/v1/chat", b"/v1/completions")):
            self._complete(body)
        elif url.startswith(b"/v1/models"):
            self._answer(b'{"data":[{"id":"tiny"}]}')
        elif b"watch=true" in url:
            self._transport.write(STREAM)  # a table that never changes
        elif url.startswith(b"/api/"):
            self._answer(self.table)
        else:
            self._answer(b"")

    def _complete(self, body: bytes) -> None:
        found = MODEL.search(body)
        model = found[1] if found else b""
        if b'"stream":true' not in body.replace(b" ", b""):
            self._answer(ANSWER % model)
            return
        event = EVENT % model
        piece = b"%x\r\n%b\r\n" % (len(event), event)
        asyncio.get_running_loop().create_task(self._stream(piece))

    async def _stream(self, piece: bytes) -> None:
        self._transport.write(STREAM)
        for _ in range(CHUNKS):
            self._transport.write(piece)
            await asyncio.sleep(0)
        self._transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def _answer(self, body: bytes) -> None:
        self._transport.write(HEAD % (len(body), body))


async def main(port: int, table: str) -> None:
    configmap = {"metadata": {"resourceVersion": "1"}, "data": {"table.json": table}}
    Engine.table = json.dumps({"metadata": {"resourceVersion": "1"}, "items": [configmap]}).encode()
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), sys.argv[2]))
