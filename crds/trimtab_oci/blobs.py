"""Reading a blob as a stream that survives a broken connection and knows its digest."""

import asyncio
import hashlib
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Self

import aiohttp

from trimtab_oci.errors import DigestMismatch, RegistryUnreachable
from trimtab_oci.format import Descriptor
from trimtab_oci.reference import Reference
from trimtab_oci.transport import PULL, Transport

_PIECE_BYTES = 4 << 20


class BlobStream:
    """The bytes of one blob, in order; after a break it goes on where it was."""

    def __init__(self, transport: Transport, reference: Reference, blob: Descriptor) -> None:
        self._transport = transport
        self._reference = reference
        self._blob = blob
        self._response: aiohttp.ClientResponse | None = None
        self._breaks = 0
        self._aborted = False
        self._reader: asyncio.Task[object] | None = None
        self._read = 0
        self._sha = hashlib.sha256()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    def abort(self) -> None:
        """Give up; a reader that waits gets an error."""
        self._aborted = True
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()  # it may wait for a server that never answers
        self._close()

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    async def chunk(self) -> bytes:
        """The next bytes, or none at the end."""
        self._reader = asyncio.current_task()
        while self._read < self._blob.size:
            if self._aborted:
                raise RegistryUnreachable(f"{self._reference.name} {self._blob.digest}: given up")
            try:
                response = self._response or await self._open()
                data = await self._gather(response)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._close()
                self._breaks += 1
                if self._breaks >= self._transport.retries.attempts:
                    raise RegistryUnreachable(
                        f"{self._reference.name} {self._blob.digest}: {error}"
                    ) from error
                await asyncio.sleep(self._transport.retries.pause(self._breaks - 1))
            else:
                self._breaks = 0
                self._read += len(data)
                if self._read > self._blob.size:
                    raise DigestMismatch(
                        f"{self._blob.digest} is longer than the {self._blob.size} bytes it should have"
                    )
                return data
        return b""

    async def _gather(self, response: aiohttp.ClientResponse) -> bytes:
        # The way to the thread costs more than the bytes, so they go there in larger pieces.
        parts: list[bytes] = []
        size = 0
        while size < _PIECE_BYTES and self._read + size < self._blob.size:
            data = await response.content.readany()
            if not data and not parts:
                raise aiohttp.ClientPayloadError(
                    f"ended after {self._read} of {self._blob.size} bytes"
                )
            if not data:
                break
            parts.append(data)
            size += len(data)
        return b"".join(parts)

    async def _open(self) -> aiohttp.ClientResponse:
        url = self._transport.url(self._reference, f"blobs/{self._blob.digest}")
        headers = {"Range": f"bytes={self._read}-"} if self._read else {}
        response = await self._transport.open(url, self._reference, PULL, headers)
        skip = self._read if response.status != 206 else 0  # the server may not know ranges
        self._response = response
        while skip:
            skip -= len(await response.content.readexactly(min(skip, 1 << 20)))
        return response

    def hash(self, data: bytes) -> None:
        """Count bytes for the digest; apart from `chunk`, so that it can run off the event loop."""
        self._sha.update(data)

    def verify(self) -> None:
        """Compare what was read with the digest."""
        found = f"sha256:{self._sha.hexdigest()}"
        if self._read != self._blob.size or found != self._blob.digest:
            raise DigestMismatch(
                f"{self._reference.name}: the blob {self._blob.digest} has in truth the digest {found}"
            )


class ThreadReader:
    """A blob as a file object for a thread: bytes come from the event loop, hashing stays here."""

    def __init__(self, stream: BlobStream, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Next bytes, exactly as many as asked unless the blob ends."""
        parts: list[memoryview] = []
        wanted = size if size >= 0 else 1 << 62
        while wanted:
            data = self._rest or memoryview(self._next())
            if not data:
                break
            parts.append(data[:wanted])
            self._rest = data[wanted:]
            wanted -= len(parts[-1])
        return b"".join(parts)

    def _next(self) -> bytes:
        try:
            data = asyncio.run_coroutine_threadsafe(self._stream.chunk(), self._loop).result()
        except CancelledError as error:
            raise RegistryUnreachable("the download was given up") from error
        self._stream.hash(data)
        return data
