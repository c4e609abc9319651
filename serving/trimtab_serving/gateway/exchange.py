"""One exchange as far as it will be looked at: what is kept of it while it goes by."""

from dataclasses import dataclass, field
from typing import Any, Final

# Of a stream whose text as a whole nobody needs: enough to tell how it began and why it ended.
HEAD_BYTES: Final = 16 * 1024
TAIL_PIECES: Final = 4
# Of one whose text is needed. Longer answers are in the last bucket of lengths anyhow.
STREAM_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class Heard:
    """The pieces of a stream that are kept."""

    needs_all: bool
    head: list[bytes] = field(default_factory=list)
    tail: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size <= (STREAM_BYTES if self.needs_all else HEAD_BYTES):
            self.head.append(piece)
        else:
            self.tail.append(piece)
            if len(self.tail) > TAIL_PIECES:
                del self.tail[0]

    @property
    def is_whole(self) -> bool:
        return not self.tail

    @property
    def pieces(self) -> list[bytes]:
        return [*self.head, *self.tail]


@dataclass(slots=True)
class Exchange:
    """A request that was answered with 200, and what it is looked at for."""

    model: str
    version: str
    digest: str
    content: Any
    is_unit: bool
    is_opening: bool
    # By whose key, as `Caller.name`.
    caller: bytes = b""
    # What its response is known by in files, where it was chosen to be kept.
    nonce: str | None = None
    # How large the request was, where its content is kept.
    request_bytes: int = 0
    body: bytes | None = None
    heard: Heard | None = None

    @property
    def size(self) -> int:
        """About how much memory it holds."""
        answer_bytes = len(self.body or b"")
        if self.heard is not None:
            answer_bytes += sum(map(len, self.heard.pieces))
        return self.request_bytes + answer_bytes
