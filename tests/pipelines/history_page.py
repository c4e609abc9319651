"""The history of a service: each thing told once, by whoever tells it best, on a page that no text can break."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.baseworld import a_based_service, a_full
from tests.historyworld import Story, drawn_history, sources_of, story
from tests.servingbuilders import NAMESPACE, a_decision, a_service

from trimtab_operator import history as command
from trimtab_operator.adapters import past
from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.errors import Forbidden, Gone
from trimtab_operator.domain.history import courses
from trimtab_operator.domain.history.courses import Course
from trimtab_operator.domain.history.entries import Entry, Sources, What, entries
from trimtab_operator.domain.history.page import page
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.domain.promql import confined
from trimtab_operator.domain.series import RawSeries

VOID = {"meta", "rect", "line", "br", "polyline"}


@pytest.fixture
async def told() -> Story:
    return await story()


def of(found: tuple[Entry, ...], what: What) -> list[Entry]:
    """The entries of a kind, the earliest first."""
    return [entry for entry in reversed(found) if entry.what is what]


def service_of(told: Story) -> Any:
    return told.fake.cluster.objects["InferenceService", (NAMESPACE, "chat")]


async def test_everything_is_told_once_and_in_order(told: Story) -> None:
    found = entries(sources_of(told))
    assert [e.time for e in found] == sorted((e.time for e in found), reverse=True)
    assert [e.title for e in of(found, What.PROMOTION)] == ["bot-2 has all requests"]
    assert [e.subject for e in of(found, What.ROLLBACK)] == ["bot-3"]
    assert [(e.title, e.by) for e in of(found, What.DECISION)] == [
        ("Pause of bot", "alice"),
        ("Resume of bot", "alice"),
    ]
    assert [e.title for e in of(found, What.ROLLOUT)] == [
        "bot-2 has its first share beside bot-1",
        "bot-2 goes on to step 2",
        "bot-3 has its first share beside bot-2",
    ]
    came = of(found, What.VERSION)[-1]
    assert (came.subject, came.by) == ("bot-3", "bob")
    assert came.why.startswith("made by FineTuneJob tune-bot-3 from tickets (sha256:")


async def test_a_rollback_has_its_numbers(told: Story) -> None:
    (back,) = of(entries(sources_of(told)), What.ROLLBACK)
    assert "CandidateWorse: ErrorRate: " in back.why
    assert "quarantined by Decision bot-3-quarantine-" in back.why
    assert back.evidence[0].candidate_events >= 60
    assert "trimtab_gateway_units_total" in back.query


async def test_a_rollback_outlives_the_service_and_its_events(told: Story) -> None:
    service_of(told).pop("status")
    told.events.clear()
    (back,) = of(entries(sources_of(told)), What.ROLLBACK)
    assert (back.model, back.subject) == ("bot", "bot-3")
    assert back.why.startswith("ErrorRate: ")


def test_a_rollback_of_the_base_is_one_too() -> None:
    why = "rollout of tiny in InferenceService chat: ErrorRate: too many"
    quarantine = a_decision("Quarantine", "two", reason=why)
    sources = Sources(a_based_service(), versions=[a_full("two")], decisions=[quarantine])
    (back,) = of(entries(sources), What.ROLLBACK)
    assert (back.model, back.subject, back.why) == ("tiny", "two", "ErrorRate: too many")


def test_a_version_that_an_evaluation_has_found_worse_is_no_traffic_that_moved() -> None:
    drift = {
        "version": "bot-1",
        "reason": "Drifting",
        "signal": "Reevaluation",
        "since": "2026-01-02T03:00:00Z",
        "measured": "2026-01-02T03:00:00Z",
        "message": "the version has become worse",
    }
    status = {"models": [{"name": "bot", "activeVersion": "bot-1", "drift": drift}]}
    service = a_service(models={"bot": {"name": "bot-1"}}, status=status)
    event = {
        "involvedObject": {"kind": "InferenceService", "name": "chat"},
        "reason": "Reevaluated",
        "message": "bot: bot-1 was evaluated again: 2 figures are as they were",
        "lastTimestamp": "2026-01-01T03:00:00Z",
    }
    found = entries(Sources(service, events=[event]))
    told_first, worse = of(found, What.DRIFT)
    assert (told_first.model, told_first.title, told_first.why) == (
        "bot",
        "bot-1 was evaluated again",
        "2 figures are as they were",
    )
    assert worse.title == "an evaluation has found bot-1 worse"


async def test_a_decision_that_was_deleted_is_told_all_the_same(told: Story) -> None:
    told.fake.cluster.take_away("Decision", (NAMESPACE, "pause"))
    pause, resume = of(entries(sources_of(told)), What.DECISION)
    assert pause.by == "alice"
    assert "Decision pause was deleted" in pause.why
    assert "deleted" not in resume.why


async def test_drift_and_what_came_of_it(told: Story) -> None:
    entry = {
        "correlation": "drift-1",
        "version": "bot-2",
        "job": "bot-drift-1",
        "time": "2026-01-02T04:00:00Z",
        "proposed": True,
        "state": "Made",
    }
    dropped = {**entry, "job": "bot-drift-2", "state": "Dropped"}
    service_of(told)["status"]["models"][1]["drift"] = {
        "version": "bot-2",
        "reason": "Drifting",
        "message": "Topics has moved",
        "since": "2026-01-02T03:50:00Z",
        "retrainings": [entry, dropped],
    }
    trained = {
        "kind": "Event",
        "metadata": {"namespace": NAMESPACE, "labels": {"trimtab.dev/correlation": "drift-1"}},
        "involvedObject": {"kind": "FineTuneJob", "name": "bot-drift-1"},
        "reason": "Succeeded",
        "message": "the result is ModelVersion bot-4",
        "eventTime": "2026-01-02T05:00:00.123456Z",
    }
    told.events["trained"] = trained
    told.events["all is quiet"] = {
        **trained,
        "involvedObject": {"kind": "InferenceService", "name": "chat"},
        "reason": "NoDrift",
        "message": "the traffic of 1 models is as it was",
    }
    told.events["of another"] = {**trained, "metadata": {"namespace": NAMESPACE}}
    found = entries(sources_of(told))
    assert [(e.model, e.title, e.why) for e in of(found, What.DRIFT)] == [
        ("bot", "the traffic of bot-2 has moved since then", "Topics has moved"),
        ("", "the traffic of 1 models is as it was", ""),
    ]
    proposed, nothing, succeeded = sorted(
        of(found, What.RETRAINING), key=lambda e: (e.time, e.title)
    )
    assert proposed.title == "FineTuneJob bot-drift-1 was proposed"
    assert "the job is not there any more" in proposed.why
    assert "nothing new to learn" in nothing.title
    assert (succeeded.title, succeeded.why) == (
        "FineTuneJob bot-drift-1: Succeeded",
        "the result is ModelVersion bot-4",
    )


async def test_versions_of_other_models_and_decisions_about_others_are_left_out(
    told: Story,
) -> None:
    other = {
        "kind": "Decision",
        "metadata": {"name": "x", "namespace": NAMESPACE, "uid": "x"},
        "spec": {
            "action": "Pause",
            "target": {"kind": "InferenceService", "name": "another", "model": "bot"},
            "by": "mallory",
            "reason": "none of ours",
        },
    }
    told.fake.cluster.add(other)
    assert "mallory" not in page(drawn_history(told))


# --- the page --------------------------------------------------------------------------------------


class Balance(HTMLParser):
    """Every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def point(version: str, *values: float) -> RawSeries:
    samples = tuple(Sample(1_767_322_800 + 60 * n, value) for n, value in enumerate(values))
    return RawSeries({"model": "bot", "version": version}, samples)


async def test_the_page_is_whole_and_no_text_breaks_it(told: Story) -> None:
    curves = {Course.ERRORS: courses.curves([point("bot-2", 0.1, float("nan"), 0.2)])}
    text = page(drawn_history(told, curves))
    reader = Balance()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert "a look at &lt;it&gt; first" in text
    assert "<it>" not in text
    assert "what was not seen" in text
    assert text.count("<polyline") == 1
    for outside in ("http://", "https://", "<script", "@import", "url("):
        assert outside not in text


async def test_a_service_that_nothing_has_happened_to_has_a_page(told: Story) -> None:
    service = service_of(told)
    service.pop("status")
    told.fake.cluster.objects = {k: m for k, m in told.fake.cluster.objects.items() if m is service}
    told.events.clear()
    assert "Nothing has been decided about it yet." in page(drawn_history(told))


def test_of_many_versions_those_that_were_seen_most_are_drawn() -> None:
    given = [point(f"bot-{n}", *[0.1] * (9 - n)) for n in range(8)]
    (kept,) = courses.curves(given).values()
    assert [curve.name for curve in kept] == [f"bot-{n}" for n in range(courses.MOST_CURVES)]


async def test_what_prometheus_is_asked_is_promql_of_this_service(told: Story) -> None:
    service = sources_of(told).service
    asked = courses.queries(service, courses.step_of(courses.SHORTEST_STEP))
    assert set(asked) == set(Course)
    for query in asked.values():
        confined(query, NAMESPACE)
    assert 'pod=~"chat-gateway-[a-z0-9]+-[a-z0-9]+"' in asked[Course.SHARE]


# --- the command -----------------------------------------------------------------------------------


def listed(folder: Path, told: Story) -> list[str]:
    file = folder / "objects.json"
    file.write_text(json.dumps({"kind": "List", "items": told.objects}))
    return ["chat", "--namespace", NAMESPACE, "--file", str(file)]


async def test_the_command_makes_a_page_of_a_file(told: Story, tmp_path: Path) -> None:
    found = await command.made(command.parsed(listed(tmp_path, told)))
    assert "bot-3 was rolled back to bot-2" in found
    assert "no Prometheus was asked" in found
    assert "Events are kept for an hour" in found


async def test_a_prometheus_that_does_not_answer_costs_the_plots_alone(
    told: Story, tmp_path: Path
) -> None:
    given = [*listed(tmp_path, told), "--prometheus", "http://127.0.0.1:9"]
    found = await command.made(command.parsed(given))
    assert "There are no plots over time: Prometheus at 127.0.0.1:9 does not answer" in found
    assert "bot-3 was rolled back to bot-2" in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "is no list of objects"),
        ("{", "no history of chat"),
        ('{"items": []}', "no InferenceService of this name in namespace ns"),
    ],
    ids=["no list", "no YAML", "another service's"],
)
def test_what_makes_no_page_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = tmp_path / "objects.yaml"
    file.write_text(text)
    assert command.main(["chat", "--namespace", NAMESPACE, "--file", str(file)]) == 2
    assert said in capsys.readouterr().err


class Server:
    """An API server that gives two objects a page, and refuses what it is told to."""

    def __init__(self, told: Story, refused: str = "") -> None:
        self._objects = told.objects
        self._refused = refused

    async def request(
        self, method: str, path: str, *, query: dict[str, str] | None = None, **_: object
    ) -> Manifest:
        assert method == "GET"
        if self._refused and self._refused in path:
            raise Forbidden(f"{path}: not for you")
        plural, *name = path.split(f"/namespaces/{NAMESPACE}/")[1].split("/")
        mine = [o for o in self._objects if f"{o['kind'].lower()}s" == plural]
        if name:
            found = next((o for o in mine if o["metadata"]["name"] == name[0]), None)
            if found is None:
                raise Gone(path)
            return found
        start = int((query or {}).get("continue", 0))
        more = {"continue": str(start + 2)} if start + 2 < len(mine) else {}
        return {"items": mine[start : start + 2], "metadata": more}


async def test_all_pages_of_all_kinds_are_read(told: Story) -> None:
    found = await past.found(Server(told), NAMESPACE, "chat", "chat-evidence")  # type: ignore[arg-type]
    assert found is not None
    assert found.remarks == []
    kinds = [o["kind"] for o in found.objects]
    assert kinds.count("Event") == len(told.events) > 2, "more than one page"
    assert kinds.count("ModelVersion") == 3


async def test_what_one_may_not_read_is_remarked_and_the_rest_is_shown(told: Story) -> None:
    server: Any = Server(told, refused="/events")
    found = await past.found(server, NAMESPACE, "chat", "chat-evidence")
    assert found is not None
    assert ["events were not read" in remark for remark in found.remarks] == [True]
    assert any(o["kind"] == "Decision" for o in found.objects)


async def test_a_service_that_is_not_there_has_no_history(told: Story) -> None:
    server: Any = Server(told)
    assert await past.found(server, NAMESPACE, "other", "other-evidence") is None
