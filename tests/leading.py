"""A clock and a write for tests of the lease and of the fence."""

import asyncio

from trimtab_operator.adapters.fence import Fence
from trimtab_operator.domain.errors import NotLeader


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


async def slow_write(fence: Fence, seconds: float) -> str:
    try:
        async with fence.write():
            await asyncio.sleep(seconds)
    except NotLeader:
        return "cut"
    return "written"
