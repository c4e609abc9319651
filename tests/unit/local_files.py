"""What several commands of the local cluster share: files, and taking turns."""

import io
import threading
from pathlib import Path

from trimtab_local.files import alone
from trimtab_local.progress import Progress


def test_a_second_command_says_that_it_waits_and_goes_on_after_the_first(tmp_path: Path) -> None:
    lock, said = tmp_path / "lock", io.StringIO()
    order: list[str] = []

    def second() -> None:
        with alone(lock, Progress(said), "image build"):
            order.append("second")

    waiting = threading.Thread(target=second)
    with alone(lock, Progress(io.StringIO()), "image build"):
        waiting.start()
        waiting.join(0.3)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]
    assert said.getvalue().strip() == "another image build is at work: waiting for it"
