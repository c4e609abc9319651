"""Replay of rollouts: the code that turns a live rollout says of recorded counters what it would have done."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from tests.rolloutworld import PLAN, POD, bot, flows, in_rollout, rolling

from trimtab_api.v1alpha1.rollout import Rollout
from trimtab_operator import rolloutreplay as command
from trimtab_operator.domain import replay as recordings
from trimtab_operator.domain import rolloutreplay
from trimtab_operator.domain.rolloutplot import picture
from trimtab_operator.domain.rolloutreplay import Pair, Recording, Replay
from trimtab_operator.domain.series import RawSeries

BEGIN = 1_767_322_800
SVG = "{http://www.w3.org/2000/svg}"
Rate = Callable[[int], tuple[int, int]]


def alike(_: int) -> tuple[int, int]:
    return 100, 5


def bad(_: int) -> tuple[int, int]:
    return 100, 40


def answer(candidate: Rate = alike, minutes: int = 20, **labels: str) -> dict[str, Any]:
    """Twenty minutes of one gateway, a scrape every 5 s; the candidate comes in the third minute."""
    totals: dict[tuple[str, str], float] = {}
    values: dict[tuple[str, str], list[list[Any]]] = {}
    for scrape in range(minutes * 12):
        gains: dict[str, tuple[int, int]] = {"bot-1": (100, 5)}
        if scrape >= 24:
            gains["bot-2"] = candidate(scrape)
        for version, (requests, errors) in gains.items():
            for code, gain in (("200", requests - errors), ("500", errors)):
                totals[version, code] = totals.get((version, code), 0.0) + gain
        for place, total in totals.items():
            values.setdefault(place, []).append([BEGIN + 5 * scrape, str(total)])
    common: dict[Any, str] = {
        "__name__": "trimtab_gateway_units_total",
        "namespace": "ns",
        "pod": POD,
        "model": "bot",
        **labels,
    }
    result = [
        {"metric": {**common, "version": version, "code": code}, "values": found}
        for (version, code), found in values.items()
    ]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def replayed(
    candidate: Rate = alike,
    plan: dict[str, Any] | None = None,
    values: dict[str, RawSeries] | None = None,
) -> Replay:
    service = rolling(plan)
    series = recordings.recorded(answer(candidate))
    (both,) = rolloutreplay.pairs(series)
    recording = Recording(series, values or {})
    return rolloutreplay.replay(service, service.spec.models[0], both, recording)


def places(found: Replay) -> list[object]:
    """The steps that were gone through, and the end."""
    seen: list[object] = ["promoted" if x.promoted else x.step for x in found.looks]
    seen = list(dict.fromkeys(seen))
    return [*seen, "back"] if found.rollback else seen


def test_the_candidate_is_the_one_that_came_while_the_other_answered() -> None:
    (both,) = rolloutreplay.pairs(recordings.recorded(answer()))
    assert (both.stable, both.candidate) == ("bot-1", "bot-2")
    assert both.began.timestamp() == BEGIN + 5 * 23, "the last scrape without it"


def test_versions_that_are_there_from_the_start_have_to_be_told_apart() -> None:
    whole = recordings.recorded(answer())
    late = [RawSeries(s.labels, tuple(x for x in s.samples if x.time > BEGIN + 300)) for s in whole]
    with pytest.raises(rolloutreplay.Unclear, match="--stable and --candidate"):
        rolloutreplay.pairs(late)
    assert rolloutreplay.pair(late, "bot-1", "bot-2").began.timestamp() == BEGIN + 305
    with pytest.raises(rolloutreplay.Unclear, match="no series of bot-9"):
        rolloutreplay.pair(late, "bot-1", "bot-9")


def test_a_good_version_would_have_been_promoted() -> None:
    found = replayed()
    assert places(found) == [1, 2, "promoted"]
    assert found.rollback is None
    assert "promoted after" in rolloutreplay.ending(found)


def test_a_bad_version_would_have_gone_back_with_its_numbers() -> None:
    found = replayed(bad)
    assert places(found) == [1, "back"]
    assert found.rollback is not None
    assert (found.rollback.reason, found.rollback.to_version) == ("CandidateWorse", "bot-1")
    assert "ErrorRate: " in rolloutreplay.ending(found)
    assert (found.looks[-1].time - found.pair.began).total_seconds() <= 30


def test_a_version_that_turns_bad_after_its_promotion_would_have_gone_back() -> None:
    found = replayed(lambda scrape: (100, 60 if scrape > 150 else 5))
    assert places(found) == [1, 2, "promoted", "back"]
    assert found.looks[-1].time.timestamp() > BEGIN + 5 * 150


async def test_it_says_what_the_live_rollout_did_on_the_same_scrapes() -> None:
    """The one that lives, visit by visit, and the one that looks back go by the same figures."""
    fake, traffic = await in_rollout()
    await flows(fake, traffic, 20, stable=(100, 5), candidate=(100, 8))
    await flows(fake, traffic, 40, stable=(100, 5), candidate=(100, 60))
    live = bot(fake).last_rollback
    assert live is not None
    series = tuple(fake.metrics.series)
    service = rolling()
    both = rolloutreplay.pair(series, "bot-1", "bot-2")
    found = rolloutreplay.replay(service, service.spec.models[0], both, Recording(series))
    assert found.rollback is not None
    assert (found.rollback.message, found.rollback.time) == (live.message, live.time)
    assert found.rollback.evidence == live.evidence


QUERY = {"name": "price", "query": 'sum(price{version="$candidate"})', "atMost": 0.5}
WITH_QUERY = {**PLAN, "analysis": {"queries": [QUERY]}}


def steady(value: float) -> dict[str, RawSeries]:
    found = recordings.recorded(
        {
            "resultType": "matrix",
            "result": [{"metric": {}, "values": [[BEGIN + 60 * n, str(value)] for n in range(20)]}],
        }
    )
    return {"price": found[0]}


def test_a_query_counts_as_it_was_recorded_and_is_not_made_up() -> None:
    assert places(replayed(plan=WITH_QUERY, values=steady(0.1))) == [1, 2, "promoted"]
    beyond = replayed(plan=WITH_QUERY, values=steady(0.9))
    assert beyond.rollback is not None
    assert beyond.rollback.reason == "QueryFailed"
    missing = replayed(plan=WITH_QUERY)
    assert places(missing) == [1]
    assert missing.left is not None
    assert (missing.left.reason, "not in the recording" in missing.left.message) == (
        "QueryUndecided",
        True,
    )


def test_a_dry_run_is_replayed_as_one() -> None:
    found = replayed(bad, {**PLAN, "dryRun": True})
    assert found.rollback is None
    assert found.looks[-1].reason == "DryRun"


def test_a_stricter_policy_says_something_else() -> None:
    patient = replayed(plan={**PLAN, "stepRequests": 10_000_000})
    assert places(patient) == [1]
    assert "at step 1 of 2 when the recording ends" in rolloutreplay.ending(patient)


def test_a_picture_has_the_curves_and_what_followed() -> None:
    def classes(found: Sequence[Replay]) -> list[str | None]:
        drawn = ET.fromstring(picture(found))  # noqa: S314 - our own
        return [e.get("class") for e in drawn.iter(f"{SVG}line") if e.get("class")]

    good, gone = replayed(), replayed(bad)
    assert classes([good]) == ["step", "promotion"]
    assert classes([good, gone]) == ["step", "promotion", "rollback"]
    assert picture([good]).count("<polyline") == 2
    nothing = Replay("<bot>", Pair("a", "b", good.pair.began), Rollout())
    assert "&lt;bot&gt;" in picture([nothing])


# --- the command -----------------------------------------------------------------------------------


def files(folder: Path, recorded: object, policy: object | None = None) -> list[str]:
    (folder / "policy.yaml").write_text(
        yaml.safe_dump(policy or {**rolling().to_wire(), "kind": "InferenceService"})
    )
    (folder / "recorded.json").write_text(json.dumps(recorded))
    return [str(folder / "policy.yaml"), "--file", str(folder / "recorded.json")]


def test_the_command_tells_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "a.svg"
    assert command.main([*files(tmp_path, answer(bad)), "--plot", str(plot)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("bot: bot-2 beside bot-1, ")
    assert "=> rolled back to bot-1 after" in told
    assert plot.read_text().startswith("<svg")


def test_the_rollout_of_a_base_is_replayed_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = {"name": "bot", "modelVersion": {"name": "bot-2"}, "rollout": PLAN}
    service = {
        "kind": "InferenceService",
        "metadata": {"name": "chat"},
        "spec": {"baseModel": base},
    }
    assert command.main(files(tmp_path, answer(), service)) == 0
    assert "bot-2" in capsys.readouterr().out


def test_a_rollout_alone_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*files(tmp_path, answer(), PLAN), "--model", "bot"]) == 0
    assert "=> promoted after" in capsys.readouterr().out


def test_a_query_comes_from_a_file_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = tmp_path / "price.json"
    values = [[BEGIN + 60 * n, "0.9"] for n in range(20)]
    query.write_text(
        json.dumps({"data": {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}})
    )
    given = files(tmp_path, answer(), WITH_QUERY)
    assert command.main([*given, "--model", "bot", "--query", f"price={query}"]) == 0
    assert "QueryFailed" in capsys.readouterr().out


WRONG: dict[str, tuple[object, list[str], int, str]] = {
    "no mapping": ([1], [], 2, "no InferenceService and no rollout"),
    "another kind": ({"kind": "Dataset"}, [], 2, "holds a Dataset"),
    "a field that does not exist": (
        {"stepSecond": 3},
        ["--model", "bot"],
        2,
        "no stepSecond",
    ),
    "a value out of its bounds": (
        {"stepSeconds": 0},
        ["--model", "bot"],
        2,
        "stepSeconds",
    ),
    "a rollout without its model": (PLAN, [], 2, "--model"),
    "one version of two": (PLAN, ["--model", "bot", "--stable", "bot-1"], 2, "go together"),
    "a model that nobody recorded": (PLAN, ["--model", "other"], 1, "no version of other"),
    "a query without its file": (PLAN, ["--model", "bot", "--query", "price"], 2, "NAME=FILE"),
}


@pytest.mark.parametrize(("policy", "more", "code", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_replayed_is_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    policy: object,
    more: list[str],
    code: int,
    said: str,
) -> None:
    assert command.main([*files(tmp_path, answer(), policy), *more]) == code
    assert said in capsys.readouterr().err


def test_a_service_without_rollouts_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service: Any = {**rolling().to_wire(), "kind": "InferenceService"}
    del service["spec"]["models"][0]["rollout"]
    assert command.main(files(tmp_path, answer(), service)) == 2
    assert "no model with a rollout" in capsys.readouterr().err
