"""A registry in the test's own process: it can lose connections, ask for tokens and lie about bytes."""

import asyncio
import base64
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass
class FakeRegistry:
    """What it holds and what it should do wrong; tests read and write both."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # by digest and by tag
    uploads: int = 0
    requests: list[str] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)  # statuses of the next answers
    break_blob_after: list[int] = field(
        default_factory=list
    )  # the next blob downloads end after so many bytes
    uploads_at: str = ""  # host:port that uploads are sent to; empty: here
    seen_authorization: list[str] = field(default_factory=list)
    stalls: bool = False  # blobs are never answered
    auth: str | None = None  # None, "basic" or "bearer"
    account: str = "robot:secret"
    has_referrers: bool = True
    knows_ranges: bool = True
    keeps_everything: bool = False
    address: str = ""

    def put_blob(self, data: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return digest

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeRegistry"]:
        app = web.Application(middlewares=[self._gate], client_max_size=8 << 30)
        app.add_routes(
            [
                web.get("/token", self._token),
                web.route("*", "/v2/{name:.+}/blobs/uploads/{id:.*}", self._upload),
                web.get("/v2/{name:.+}/blobs/{digest}", self._blob),
                web.get("/v2/{name:.+}/referrers/{digest}", self._referrers),
                web.route("*", "/v2/{name:.+}/manifests/{ref}", self._manifest),
            ]
        )
        async with TestServer(app) as server:
            self.address = f"127.0.0.1:{server.port}"
            yield self

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        self.seen_authorization.append(request.headers.get("Authorization", ""))
        if request.path == "/token":
            return await handler(request)
        if self.failures and (status := self.failures.pop(0)):
            return web.Response(status=status)
        given = request.headers.get("Authorization", "")
        basic = "Basic " + base64.b64encode(self.account.encode()).decode()
        if self.auth == "basic" and given != basic:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        needed = "pull" if request.method == "GET" else "pull,push"
        name = request.match_info.get("name")
        if self.auth == "bearer" and given not in {
            f"Bearer {name}:pull,push",
            f"Bearer {name}:{needed}",
        }:
            realm = f'Bearer realm="http://{self.address}/token",service="fake",scope="ignored"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        return await handler(request)

    async def _token(self, request: web.Request) -> web.Response:
        basic = "Basic " + base64.b64encode(self.account.encode()).decode()
        if request.headers.get("Authorization") != basic:
            return web.Response(status=401)
        _, name, actions = request.query["scope"].split(":")
        return web.json_response({"token": f"{name}:{actions}"})

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        if self.stalls:
            await asyncio.sleep(60)
        data = self.blobs.get(request.match_info["digest"])
        if data is None:
            return web.json_response(
                {"errors": [{"code": "BLOB_UNKNOWN", "message": "unknown"}]}, status=404
            )
        start, status = 0, 200
        if self.knows_ranges and (wanted := request.headers.get("Range")):
            start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
        response = web.StreamResponse(
            status=status, headers={"Content-Length": str(len(data) - start)}
        )
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if self.break_blob_after:
            await response.write(data[start : start + self.break_blob_after.pop(0)])
            if request.transport:
                request.transport.close()
            return response
        await response.write(data[start:])
        return response

    async def _upload(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            self.uploads += 1
            host = f"http://{self.uploads_at}" if self.uploads_at else ""
            place = (
                f"{host}/v2/{request.match_info['name']}/blobs/uploads/{self.uploads}?_state=a%3D"
            )
            return web.Response(status=202, headers={"Location": place})
        data = await request.read()
        if request.query.get("_state") != "a=" or request.headers.get("Transfer-Encoding"):
            return web.Response(status=400)
        if self.put_blob(data) != request.query["digest"]:
            return web.json_response(
                {"errors": [{"code": "DIGEST_INVALID", "message": "no"}]}, status=400
            )
        return web.Response(status=201)

    async def _manifest(self, request: web.Request) -> web.Response:
        ref = request.match_info["ref"]
        if request.method == "PUT":
            return self._store(ref, request.content_type, await request.read())
        if request.method == "DELETE":
            return self._delete(ref)
        if ref not in self.manifests:
            return web.json_response(
                {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}, status=404
            )
        media_type, data = self.manifests[ref]
        headers = {"Docker-Content-Digest": "sha256:" + hashlib.sha256(data).hexdigest()}
        return web.Response(body=data, content_type=media_type, headers=headers)

    def _delete(self, digest: str) -> web.Response:
        if self.keeps_everything:
            return web.json_response({"errors": [{"code": "UNSUPPORTED"}]}, status=405)
        found = self.manifests.get(digest)
        if found is None:
            return web.Response(status=404)
        # Tags go with what they name.
        self.manifests = {name: held for name, held in self.manifests.items() if held != found}
        return web.Response(status=202)

    def _store(self, ref: str, media_type: str, data: bytes) -> web.Response:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.manifests[digest] = self.manifests[ref] = (media_type, data)
        headers = {"Docker-Content-Digest": digest}
        subject = json.loads(data).get("subject")
        if subject and self.has_referrers:
            headers["OCI-Subject"] = subject["digest"]
        return web.Response(status=201, headers=headers)

    async def _referrers(self, request: web.Request) -> web.Response:
        if not self.has_referrers:
            return web.Response(status=404)
        found = []
        for digest, (media_type, data) in self.manifests.items():
            manifest = json.loads(data)
            if (
                digest.startswith("sha256:")
                and (manifest.get("subject") or {}).get("digest") == request.match_info["digest"]
            ):
                found.append(
                    {
                        "mediaType": media_type,
                        "digest": digest,
                        "size": len(data),
                        "artifactType": manifest["artifactType"],
                    }
                )
        return web.Response(
            body=json.dumps({"schemaVersion": 2, "manifests": found}).encode(), content_type=INDEX
        )


@contextmanager
def registry_in_thread() -> Iterator[FakeRegistry]:
    """A registry that answers while the test's own thread, or code with a loop of its own, is at work."""
    registry = FakeRegistry()
    loop = asyncio.new_event_loop()
    is_up, is_over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with registry.running():
            is_up.set()
            await is_over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert is_up.wait(10)
    try:
        yield registry
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join(10)
        loop.close()
