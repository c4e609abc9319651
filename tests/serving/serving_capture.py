"""What is kept of the traffic: only where it is asked for, redacted, bounded, and never at a request's cost."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.serving.serving_feedback import SETTINGS, asked, keys_at, say
from tests.servingkit import eventually
from tests.servingstack import data_plane

from trimtab_serving.gateway import capturefiles
from trimtab_serving.gateway.capture import MOST_PER_SECOND, MOST_WAITING_BYTES, Capture
from trimtab_serving.gateway.capturefiles import FAILED, FULL, WRITTEN, CaptureFiles
from trimtab_serving.gateway.exchange import Exchange, Heard
from trimtab_serving.gateway.kept import Opinion, exchange_line, texts_of, whole
from trimtab_serving.gateway.metrics import GatewayMetrics
from trimtab_serving.gateway.said import Said
from trimtab_serving.settings import CaptureSettings

HOUR = 3600.0
START = 1_795_000_000.0
SECRET = "ghp_" + "aB3" * 12


def lines_in(directory: Path) -> list[dict[str, Any]]:
    files = sorted(directory.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


async def test_exchanges_and_what_is_said_of_them_are_kept_redacted(tmp_path: Path) -> None:
    directory = tmp_path / "capture"
    directory.mkdir()
    capture = CaptureSettings(directory, 100, 86_400, 1 << 20)
    async with data_plane(
        tmp_path, keys=keys_at(tmp_path), feedback=SETTINGS, capture=capture
    ) as stack:
        red = await stack.publish("red")
        stack.route(bot=[red])
        await stack.loaded(red)
        stack.engine.says = f"Write to jane@example.com with {SECRET}."
        question = "I am at +49 30 1234567, what now?"
        messages = [{"role": "user", "content": question}]
        name = await asked(stack, messages=messages, user="user-4711")
        said = await say(
            stack.public,
            id=name,
            rating="negative",
            correction="Call +49 30 7654321.",
            labels=["tone", "tone", "facts"],
        )
        assert said.json()["kept"] is True
        again = await say(stack.public, id=name, correction="Call +49 30 7654321.")
        assert (again.status_code, again.json()["kept"]) == (200, True)
        streamed = await stack.public.post(
            "/v1/chat/completions",
            json={"model": "bot", "messages": messages, "stream": True},
            headers={"authorization": "Bearer key-of-alice"},
        )
        assert streamed.status_code == 200
        await eventually(lambda: len(lines_in(directory)) == 4)
        assert await stack.counted("trimtab_gateway_captured_total", outcome="written") == 4
    lines = lines_in(directory)
    (exchange, stream) = [line for line in lines if line["kind"] == "exchange"]
    assert exchange["messages"] == [
        {"role": "user", "content": "I am at <PHONE_NUMBER>, what now?"}
    ]
    assert exchange["answer"] == "Write to <EMAIL_ADDRESS> with <SECRET>."
    assert exchange["redacted"] == {"EMAIL_ADDRESS": 1, "PHONE_NUMBER": 1, "SECRET": 1}
    assert (exchange["model"], exchange["version"]) == ("bot", "red-1")
    assert stream["answer"] == "Iamhere"
    feedback = [line for line in lines if line["kind"] == "feedback"]
    assert feedback[0]["labels"] == ["facts", "tone"]
    assert feedback[0]["correction"] == "Call <PHONE_NUMBER>."
    assert {line["id"] for line in feedback} == {exchange["id"]}
    text = "".join(path.read_text() for path in directory.iterdir())
    for private in ("jane@", "1234567", SECRET, "user-4711", "key-of", name):
        assert private not in text
    assert all(path.stat().st_mode & 0o007 == 0 for path in directory.iterdir())


async def test_a_volume_that_fails_harms_no_request(tmp_path: Path) -> None:
    capture = CaptureSettings(tmp_path / "not-there", 100, 86_400, 1 << 20)
    async with data_plane(
        tmp_path, keys=keys_at(tmp_path), feedback=SETTINGS, capture=capture
    ) as stack:
        red = await stack.publish("red")
        stack.route(bot=[red])
        await stack.loaded(red)
        name = await asked(stack)
        assert (await say(stack.public, id=name, rating="positive")).status_code == 200
        outcomes: list[float] = []
        while not outcomes or outcomes[-1] < 2:
            outcomes.append(await stack.counted("trimtab_gateway_captured_total", outcome="failed"))


def files_of(directory: Path, writer: str = "pod-1", **changes: Any) -> CaptureFiles:
    values: dict[str, Any] = {"retention_seconds": 3 * HOUR, "max_bytes": 1000}
    return CaptureFiles(directory, writer, **{**values, "wall": lambda: START, **changes})


def test_what_is_too_old_is_deleted_whoever_wrote_it(tmp_path: Path) -> None:
    now = [START]
    wall: Callable[[], float] = lambda: now[0]  # noqa: E731 - a clock that is turned
    one, other = (files_of(tmp_path, name, wall=wall) for name in ("one", "other"))
    foreign = tmp_path / "notes.txt"
    foreign.write_text("x")
    for hour in range(5):
        now[0] = START + hour * HOUR
        assert one.write([b"a\n"]) == other.write([b"b\n"]) == WRITTEN
    kept = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    assert len(kept) == 6
    now[0] += 10 * HOUR
    one.write([])
    assert list(tmp_path.iterdir()) == [foreign]


def test_above_its_size_nothing_is_written_until_old_files_go(tmp_path: Path) -> None:
    now = [START]
    wall: Callable[[], float] = lambda: now[0]  # noqa: E731 - a clock that is turned
    one, other = (files_of(tmp_path, name, wall=wall) for name in ("one", "other"))
    assert one.write([b"x" * 900]) == WRITTEN
    assert other.write([b"x" * 200]) == FULL  # what others wrote counts
    assert one.write([b"x" * 200]) == FULL
    now[0] += 4 * HOUR
    assert one.write([b"x" * 200]) == WRITTEN


@pytest.mark.parametrize(
    ("code", "outcome"), [(errno.ENOSPC, FULL), (errno.EDQUOT, FULL), (errno.EIO, FAILED)]
)
def test_half_a_line_does_not_stay(
    tmp_path: Path, code: int, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(tmp_path)
    assert files.write([b"whole\n"]) == WRITTEN

    def fails(file: int, data: bytes) -> None:
        os.write(file, data[:3])
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(capturefiles, "_write_all", fails)
        assert files.write([b"broken\n"]) == outcome
    assert files.write([b"again\n"]) == WRITTEN
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == b"whole\nagain\n"


def kept_as(texts: list[tuple[str, str]], answer: str) -> dict[str, Any]:
    exchange = Exchange("bot", "red-1", "d", None, is_unit=True, is_opening=True, nonce="n")
    line = whole(exchange_line(exchange, Said(answer, "stop"), texts, 7))
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_find_in_a_long_text_is_found_wherever_it_stands() -> None:
    for place in range(940, 1060, 3):
        text = "word " * (place // 5) + "x" * (place % 5) + " call +49 30 123 45 67" + " word" * 500
        content = kept_as([("user", text)], "a")["messages"][0]["content"]
        assert content == text.replace("+49 30 123 45 67", "<PHONE_NUMBER>")


def test_a_key_of_many_lines_is_found_as_a_whole() -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkq\n" * 200 + "-----END PRIVATE KEY-----"
    kept = kept_as([("user", f"Is this right?\n{key}\nThanks. " + "word " * 900)], "a")
    assert "MIIE" not in kept["messages"][0]["content"]
    assert kept["redacted"] == {"SECRET": 1}


NOT_ALL_TEXT = [
    [1, 2, 3],
    [],
    None,
    [{"role": "tool", "content": "x"}],
    [{"role": "user", "content": [{"type": "image_url"}]}],
]


@pytest.mark.parametrize("content", NOT_ALL_TEXT, ids=str)
def test_what_is_not_all_text_is_not_kept(content: object) -> None:
    assert texts_of(content) is None


def capture_of(
    directory: Path, percent: float = 100, **changes: Any
) -> tuple[Capture, GatewayMetrics]:
    metrics = GatewayMetrics()
    return Capture(files_of(directory), metrics.signals, percent, **changes), metrics


def test_chance_chooses_and_a_second_has_its_limit(tmp_path: Path) -> None:
    dice = iter([0.05, 0.5, 0.09, 0.11])
    capture, _ = capture_of(tmp_path, 10, chance=lambda: next(dice), wall=lambda: START)
    assert [capture.is_chosen() for _ in range(4)] == [True, False, True, False]
    capture, _ = capture_of(tmp_path, 100, chance=lambda: 0.5, wall=lambda: START)
    assert [capture.is_chosen() for _ in range(50)].count(True) == MOST_PER_SECOND


def test_what_waits_for_a_slow_volume_is_bounded(tmp_path: Path) -> None:
    capture, metrics = capture_of(tmp_path, wall=lambda: START)
    opinion = Opinion(correction="x" * 16_000)
    kept = sum(capture.feedback("n", ("bot", "red-1"), opinion) for _ in range(1000))
    assert kept * 16_000 < MOST_WAITING_BYTES
    assert f'outcome="dropped"}} {1000.0 - kept}' in metrics.exposition().decode()


def test_long_exchanges_and_cut_streams_are_left_out(tmp_path: Path) -> None:
    capture, metrics = capture_of(tmp_path, wall=lambda: START)
    long = Exchange("bot", "v", "d", "x" * 70_000, is_unit=True, is_opening=True, nonce="n")
    cut = Exchange("bot", "v", "d", "x", is_unit=True, is_opening=True, nonce="n")
    cut.heard = Heard(needs_all=True, tail=[b"x"])
    for exchange in (long, cut):
        list(capture.exchange(exchange, Said("a", "stop")))
    assert 'outcome="too_large"} 2.0' in metrics.exposition().decode()
