"""What this agent tells the operator and the gateways: one report, and who waits for the next."""

import asyncio

from trimtab_api.routing import AdapterState, AgentReport


class Board:
    """The current report. Its sequence begins where no earlier process of this pod can have ended."""

    def __init__(
        self,
        first_sequence: int,
        *,
        verifies_signatures: bool = False,
        verifies_base: bool = False,
    ) -> None:
        self._report = AgentReport(
            sequence=first_sequence,
            verifies_signatures=verifies_signatures,
            verifies_base=verifies_base,
            knows_pools=True,
            engine_ready=False,
            engine_message="the agent has just started",
        )
        self._changed = asyncio.Event()
        self._longest_wait_seconds = float("inf")

    @property
    def report(self) -> AgentReport:
        return self._report

    def publish(
        self,
        adapters: list[AdapterState],
        *,
        ready: bool,
        joins: bool = False,
        message: str | None = None,
    ) -> None:
        """Take a new state; only a change is news."""
        report = AgentReport(
            sequence=self._report.sequence,
            verifies_signatures=self._report.verifies_signatures,
            verifies_base=self._report.verifies_base,
            knows_pools=self._report.knows_pools,
            engine_ready=ready,
            joins=joins,
            engine_message=message,
            adapters=adapters,
        )
        if report == self._report:
            return
        self._report = report.model_copy(update={"sequence": report.sequence + 1})
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, sequence: int, wait_seconds: float) -> AgentReport:
        """The report once its sequence is above the given one, or the same after the wait.

        Somebody who has seen a higher sequence than ours has seen another agent, and must not wait.
        """
        wait_seconds = min(wait_seconds, self._longest_wait_seconds)
        if wait_seconds > 0 and self._report.sequence == sequence:
            changed = self._changed
            try:
                async with asyncio.timeout(wait_seconds):
                    await changed.wait()
            except TimeoutError:
                pass
        return self._report

    def finish(self) -> None:
        """From now on nobody waits long: an end of the process must not wait for its readers."""
        self._longest_wait_seconds = 0.5
        self._changed.set()
        self._changed = asyncio.Event()
