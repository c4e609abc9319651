"""Replay: the same functions over recorded counters say the same, and draw it."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from trimtab_api.v1alpha1.drift import Drift, DriftSignal
from trimtab_operator import replay as command
from trimtab_operator.domain import replay
from trimtab_operator.domain.replayplot import picture

POLICY = Drift(signals=[DriftSignal.LANGUAGES])
BEGIN = 1_767_322_800
SVG = "{http://www.w3.org/2000/svg}"


def answer(moved_after: int | None = 60, minutes: int = 90, **labels: str) -> dict[str, Any]:
    """An hour and a half of one gateway, 200 openings a minute."""
    counts = {"en": 0.0, "fr": 0.0}
    values: dict[str, list[list[Any]]] = {name: [] for name in counts}
    for quarter in range(minutes * 4):
        has_moved = moved_after is not None and quarter >= moved_after * 4
        counts["en"] += 25 if has_moved else 49
        counts["fr"] += 25 if has_moved else 1
        for name, value in counts.items():
            values[name].append([BEGIN + 15 * quarter, str(value)])
    common: dict[str, str] = {
        "pod": "g",
        "model": "bot",
        "version": "bot-1",
        "signal": "Languages",
        **labels,
    }
    result = [{"metric": common | {"bucket": n}, "values": v} for n, v in values.items()]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def test_a_recorded_change_is_found_when_it_came() -> None:
    found = replay.replay(POLICY, "bot", "bot-1", replay.recorded(answer()))
    assert [look.reason for look in found.changes] == ["Learning", "NoDrift", "Drifting"]
    alarm = found.changes[-1].time.timestamp() - BEGIN
    assert 60 * 60 < alarm < 66 * 60
    assert "fr 2." in found.changes[-1].message


def test_traffic_that_stays_raises_no_alarm() -> None:
    found = replay.replay(POLICY, "bot", "bot-1", replay.recorded(answer(None)))
    assert [look.reason for look in found.changes] == ["Learning", "NoDrift"]


def test_a_picture_shows_the_line_and_the_alarm() -> None:
    found = replay.replay(POLICY, "bot<1>", "bot-1", replay.recorded(answer(model="bot<1>")))
    drawn = ET.fromstring(picture([found]))  # noqa: S314 - our own
    assert [e.get("class") for e in drawn.iter(f"{SVG}line")].count("alarm") == 1
    assert len(list(drawn.iter(f"{SVG}polyline"))) == 1
    nothing = replay.replay(POLICY, "bot", "bot-1", replay.recorded(answer(None, 3)))
    assert "too little" in picture([nothing])


def test_the_command_tells_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, plot = tmp_path / "a.json", tmp_path / "a.svg"
    file.write_text(json.dumps(answer()))
    code = command.main(["--file", str(file), "--signals", "Languages", "--plot", str(plot)])
    told = capsys.readouterr().out
    assert code == 0
    assert told.startswith("bot, bot-1: 91 looks")
    assert "Drifting: Languages has moved since" in told
    assert plot.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        pytest.param("{", 2, "nothing can be replayed", id="no JSON"),
        pytest.param('{"data": {"resultType": "vector"}}', 2, "form matrix", id="another form"),
        pytest.param("[]", 2, "nothing can be replayed", id="a list"),
        pytest.param(
            '{"data": {"resultType": "matrix", "result": [{"values": []}]}}',
            2,
            "metric",
            id="a series without labels",
        ),
        pytest.param(
            '{"data": {"resultType": "matrix", "result": []}}', 1, "no series", id="nothing"
        ),
    ],
)
def test_what_cannot_be_read_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, code: int, said: str
) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)
    assert command.main(["--file", str(file)]) == code
    assert said in capsys.readouterr().err


def test_a_signal_that_nobody_counts_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(answer()))
    assert command.main(["--file", str(file), "--signals", "Mood"]) == 2
    assert "Topics" in capsys.readouterr().err
