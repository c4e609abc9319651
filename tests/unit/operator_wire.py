"""Answers as servers, proxies and networks send them, and what becomes of the connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests import websites
from tests.websites import Authority, make_authority
from tests.wireserver import OK, Answering, Request, Server, says, serving

from trimtab_operator.adapters import wire as wires
from trimtab_operator.adapters.wire import Broken, Place, Wire

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CLIENT = ssl.create_default_context()


@asynccontextmanager
async def wired(answering: Answering) -> AsyncIterator[tuple[Wire, Server]]:
    async with serving(answering) as server, asyncio.timeout(20):
        wire = Wire(Place(f"http://127.0.0.1:{server.port}", CLIENT))
        try:
            yield wire, server
        finally:
            await wire.close()


async def got(wire: Wire, path: str = "/") -> bytes:
    return (await wire.ask("GET", path, {})).body


async def posted(wire: Wire, body: bytes = b"{}") -> bytes:
    return (await wire.ask("POST", "/", {}, body)).body


async def test_requests_one_after_another_share_a_connection() -> None:
    async with wired(says(OK)) as (wire, server):
        assert await got(wire, "/version?a=b") == b"{}"
        answer = await wire.ask("PATCH", "/x", {"Content-Type": "application/json"}, b'{"a":1}')
    assert (answer.status, answer.reason, answer.headers) == (200, "OK", {"content-length": "2"})
    assert [each.line for each in server.requests] == [
        "GET /version?a=b HTTP/1.1",
        "PATCH /x HTTP/1.1",
    ]
    host = f"127.0.0.1:{server.port}"
    written = {"Host": host, "Content-Type": "application/json", "Content-Length": "7"}
    assert [each.headers for each in server.requests] == [{"Host": host}, written]
    assert server.requests[1].body == b'{"a":1}'
    assert server.connections == 1


async def test_requests_at_the_same_time_have_a_connection_each() -> None:
    async with wired(says(OK)) as (wire, server):
        await asyncio.gather(*(got(wire) for _ in range(5)))
        await asyncio.gather(*(got(wire) for _ in range(5)))
    assert server.connections == 5


WHOLE = {
    "chunks": [CHUNKED, b"3\r\nabc\r\n", b"3;x=y\r\ndef\r\n", b"0\r\n\r\n"],
    "single bytes": [
        bytes([b]) for b in CHUNKED + b"3\r\nabc\r\n3\r\ndef\r\n0\r\nChecked: yes\r\n\r\n"
    ],
    "a header that says nothing": [
        b"HTTP/1.1 200 OK\r\nEmpty:\r\nContent-Length: 6\r\n\r\nabcdef",
    ],
    "hints first": [
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\nLink: </x>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef",
    ],
}


@pytest.mark.parametrize("parts", WHOLE.values(), ids=WHOLE)
async def test_an_answer_is_whole_and_the_connection_stays(parts: list[bytes]) -> None:
    async with wired(says(*parts)) as (wire, server):
        assert [await got(wire), await posted(wire)] == [b"abcdef", b"abcdef"]
    assert server.connections == 1


LAST = {
    "connection: close": [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nabcdef"
    ],
    "close after chunks": [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"6\r\nabcdef\r\n0\r\n\r\n",
    ],
    "HTTP/1.0": [b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nabcdef"],
    "more than was asked for": [
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdefHTTP/1.1 500 No\r\n\r\n"
    ],
    "an answer to nobody": [
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    ],
}


@pytest.mark.parametrize("parts", LAST.values(), ids=LAST)
async def test_after_such_an_answer_the_connection_is_not_used_again(parts: list[bytes]) -> None:
    async with wired(says(*parts)) as (wire, server):
        assert await posted(wire) == b"abcdef"
        await asyncio.sleep(0.02)
        assert await posted(wire) == b"abcdef"
    assert server.connections == 2


async def test_without_a_length_the_end_of_the_connection_ends_the_answer() -> None:
    async with wired(says(b"HTTP/1.1 200 OK\r\n\r\nabc", b"def", ends=True)) as (wire, server):
        assert [await got(wire), await posted(wire)] == [b"abcdef", b"abcdef"]
    assert server.connections == 2


BROKEN = {
    "before the answer": [],
    "in the head": [b"HTTP/1.1 200 OK\r\nContent-Le"],
    "in the body": [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"],
    "between chunks": [CHUNKED, b"3\r\nabc\r\n"],
    "in a chunk": [CHUNKED, b"9\r\nabc"],
    "with another protocol": [b"SSH-2.0-OpenSSH_9.2p1\r\n"],
    "with an upgrade": [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"],
    "with two lengths": [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    ],
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("parts", BROKEN.values(), ids=BROKEN)
async def test_an_answer_that_breaks_off_is_none_and_nothing_is_sent_again(
    parts: list[bytes], method: str
) -> None:
    async with wired(says(*parts, ends=True)) as (wire, server):
        with pytest.raises(Broken):
            await wire.ask(method, "/", {})
    assert len(server.requests) == 1


def _once_per_connection() -> Answering:
    """A server that ends each connection when the second request on it has come."""
    seen: set[int] = set()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.connection in seen:
            writer.transport.abort()
        else:
            seen.add(request.connection)
            writer.write(OK)

    return answer


async def test_a_read_is_sent_again_when_the_kept_connection_had_ended() -> None:
    async with wired(_once_per_connection()) as (wire, server):
        assert [await got(wire), await got(wire)] == [b"{}", b"{}"]
    assert [each.connection for each in server.requests] == [1, 1, 2]


async def test_a_write_is_never_sent_again() -> None:
    async with wired(_once_per_connection()) as (wire, server):
        await posted(wire)
        with pytest.raises(Broken):
            await posted(wire)
        assert await posted(wire) == b"{}"
    assert [each.connection for each in server.requests] == [1, 1, 2]


async def test_a_connection_that_ended_while_it_was_idle_is_not_written_to() -> None:
    async with wired(says(OK, ends=True)) as (wire, server):
        for _ in range(3):
            assert await posted(wire) == b"{}"
            await asyncio.sleep(0.02)
    assert [each.connection for each in server.requests] == [1, 2, 3]


async def test_a_connection_that_is_half_closed_is_not_written_to() -> None:
    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        writer.write_eof()

    async with wired(answer) as (wire, server):
        await posted(wire)
        await asyncio.sleep(0.02)
        await posted(wire)
    assert server.connections == 2


async def test_a_connection_that_was_idle_for_long_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with wired(says(OK)) as (wire, server):
        await asyncio.gather(posted(wire), posted(wire))
        monkeypatch.setattr(wires, "KEPT_SECONDS", 0.05)
        await asyncio.sleep(0.1)
        await posted(wire)
        await server.ended.wait()
    assert server.connections == 3


async def test_large_bodies_go_both_ways() -> None:
    async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(request.body)}\r\n\r\n"
        writer.write(head.encode() + request.body)

    body = bytes(range(256)) * 2**14
    async with wired(echo) as (wire, _):
        assert await posted(wire, body) == body


async def test_whoever_gives_up_ends_the_connection() -> None:
    asked = asyncio.Event()

    async def never(_request: Request, _writer: asyncio.StreamWriter) -> None:
        asked.set()

    async with wired(never) as (wire, server):
        task = asyncio.create_task(posted(wire))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.ended.wait()


async def test_a_stream_is_read_as_it_comes_and_its_connection_is_kept_at_its_end() -> None:
    more = asyncio.Event()

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.line.startswith("GET /x"):
            writer.write(OK)
            return
        writer.write(CHUNKED + b"2\r\nab\r\n")
        await more.wait()
        writer.write(b"2\r\ncd\r\n0\r\n\r\n")

    async with wired(answer) as (wire, server):
        async with wire.stream("/", {}, 5) as (answered, read):
            assert (answered.status, await read()) == (200, b"ab")
            more.set()
            assert [await read(), await read()] == [b"cd", b""]
        assert await got(wire, "/x") == b"{}"
    assert server.connections == 1


async def test_a_stream_that_is_left_early_ends_its_connection() -> None:
    async with wired(says(CHUNKED, b"2\r\nab\r\n")) as (wire, server):
        async with wire.stream("/", {}, 5) as (_, read):
            await read()
        await server.ended.wait()


@pytest.mark.parametrize("parts", [[], [CHUNKED], [CHUNKED, b"2\r\nab\r\n"]])
async def test_a_silent_stream_is_given_up(parts: list[bytes]) -> None:
    async def read_all(wire: Wire) -> None:
        async with wire.stream("/", {}, 0.1) as (_, read):
            while await read():
                pass

    async with wired(says(*parts)) as (wire, _):
        with pytest.raises(TimeoutError):
            await read_all(wire)


async def test_a_stream_that_is_cut_is_broken_after_what_had_come() -> None:
    cut = says(CHUNKED, b"2\r\nab\r\n", ends=True)
    async with wired(cut) as (wire, _), wire.stream("/", {}, 5) as (_, read):
        assert await read() == b"ab"
        with pytest.raises(Broken):
            await read()


async def test_a_slow_reader_slows_the_server() -> None:
    sent = 0

    async def answer(_request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(CHUNKED)
        for _ in range(1000):
            writer.write(b"10000\r\n" + bytes(2**16) + b"\r\n")
            await writer.drain()
            sent += 1
        writer.write(b"0\r\n\r\n")

    async with wired(answer) as (wire, _), wire.stream("/", {}, 5) as (_, read):
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert 0 < sent < 500
        size = 0
        while piece := await read():
            size += len(piece)
        assert size == 1000 * 2**16


async def test_nobody_at_the_address() -> None:
    async with serving(says(OK)) as server:
        address = f"127.0.0.1:{server.port}"
    with pytest.raises(Broken, match=f"no connection to {address}"):
        await got(Wire(Place(f"http://{address}", CLIENT)))


async def test_a_line_break_never_reaches_the_wire() -> None:
    async with wired(says(OK)) as (wire, server):
        with pytest.raises(ValueError, match="line break"):
            await wire.ask("GET", "/", {"Authorization": "a\r\nHost: b"})
        with pytest.raises(ValueError, match="line break"):
            await wire.ask("GET", "/ HTTP/1.1\nHost: b", {})
    assert server.requests == []


# --- TLS and proxies ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.ca))


async def asked(place: Place) -> bytes:
    wire = Wire(place)
    try:
        async with asyncio.timeout(20):
            return await got(wire) + await posted(wire)
    finally:
        await wire.close()


async def test_tls_under_the_authority_of_the_cluster(authority: Authority) -> None:
    async with serving(says(OK), authority.context()) as server:
        place = Place(f"https://127.0.0.1:{server.port}", trusting(authority))
        assert await asked(place) == b"{}{}"
        assert server.connections == 1
        with pytest.raises(Broken, match="certificate"):
            await asked(Place(f"https://127.0.0.1:{server.port}", CLIENT))


async def test_the_name_in_the_certificate_may_be_another_one(authority: Authority) -> None:
    async with serving(says(OK), authority.context()) as server:
        url = f"https://localhost:{server.port}"
        with pytest.raises(Broken, match="localhost"):
            await asked(Place(url, trusting(authority)))
        assert await asked(Place(url, trusting(authority), "127.0.0.1")) == b"{}{}"


async def test_through_a_proxy_a_tunnel_leads_to_the_server(authority: Authority) -> None:
    proxy = websites.Proxy()
    async with serving(says(OK), authority.context()) as server:
        with websites.serving(proxy.handler()) as address:
            url = f"https://127.0.0.1:{server.port}"
            found = await asked(Place(url, trusting(authority), proxy=f"http://{address}"))
    assert found == b"{}{}"
    assert proxy.tunnels == [f"127.0.0.1:{server.port}"]


async def test_a_proxy_with_tls_of_its_own(authority: Authority) -> None:
    proxy = websites.Proxy()
    async with serving(says(OK)) as server:
        with websites.serving(websites.Quiet, authority) as address:
            place = Place("http://api.example", trusting(authority), proxy=f"https://{address}")
            wire = Wire(place)
            answer = await wire.ask("GET", "/version", {})
            await wire.close()
    assert (answer.status, proxy.tunnels, server.requests) == (501, [], [])


async def test_a_proxy_that_refuses_says_why(authority: Authority) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with serving(says(refusal)) as proxy:
        place = Place(
            "https://api.example:6443", CLIENT, proxy=f"http://me:s%3A1@127.0.0.1:{proxy.port}"
        )
        with pytest.raises(Broken, match="the proxy answered 407 Proxy Authentication Required"):
            await asked(place)
    (request,) = proxy.requests
    assert request.line == "CONNECT api.example:6443 HTTP/1.1"
    assert request.headers["Proxy-Authorization"] == "Basic bWU6czox"


async def test_without_tls_the_proxy_gets_the_whole_address() -> None:
    async with serving(says(OK)) as proxy:
        url = f"http://me:x@127.0.0.1:{proxy.port}"
        assert await asked(Place("http://api.example/k8s", CLIENT, proxy=url)) == b"{}{}"
    (request, _) = proxy.requests
    assert request.line == "GET http://api.example/k8s/ HTTP/1.1"
    assert request.headers == {"Host": "api.example", "Proxy-Authorization": "Basic bWU6eA=="}


async def test_another_kind_of_proxy_is_refused() -> None:
    place = Place("https://api.example:6443", CLIENT, proxy="socks5://127.0.0.1:1080")
    with pytest.raises(Broken, match="socks5:// cannot be used, only http:// and https://"):
        await asked(place)


async def test_a_proxy_that_ends_the_tunnel_is_no_connection(tmp_path: Path) -> None:
    tunnel = b"HTTP/1.1 200 Connection established\r\n\r\n"
    async with serving(says(tunnel, ends=True)) as proxy:
        place = Place("https://api.example:6443", CLIENT, proxy=f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Broken, match=r"no connection to api\.example:6443"):
            await asked(place)
