"""Alert rules and dashboards ask for series, and for labels of them, that our programs export."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client import CollectorRegistry

from trimtab_operator.adapters.telemetry import Telemetry
from trimtab_pipelines.training.monitor import Monitor, Told
from trimtab_serving.agent import main as agent
from trimtab_serving.agent.metrics import AgentMetrics
from trimtab_serving.gateway import main as gateway
from trimtab_serving.gateway.metrics import GatewayMetrics

TOP: Final = Path(__file__).resolve().parents[2]
MONITORING: Final = TOP / "charts" / "trimtab" / "monitoring"
DASHBOARDS: Final = sorted((MONITORING / "dashboards").glob("*.json"))
# What Prometheus and Grafana add to the labels of a series.
ADDED: Final = frozenset({"namespace", "pod", "instance", "job", "le", "exported_namespace"})
SUFFIXES: Final = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
}
WATCHED: Final = re.compile(r"metrics\.watch\(\s*\"(\w+)\"")
# Words of PromQL that a name could be taken for stand before a bracket or are among these.
WORDS: Final = frozenset({"by", "without", "on", "ignoring", "and", "or", "unless", "offset", "Inf", "bool", "group_left", "group_right"})  # fmt: skip


def exported() -> Mapping[str, frozenset[str]]:
    """Every series of our programs with its labels."""
    monitor = Monitor()
    monitor.begin(0, 2, 0)
    monitor.tell(Told(1, 2, 3, 4.0, 0.1, 1.0))
    monitor.evaluated(1.0)
    found = dict[str, frozenset[str]]()
    for registry in (
        GatewayMetrics().registry,
        AgentMetrics().registry,
        Telemetry().registry,
        monitor.registry,
    ):
        found |= _series(registry)
    for program, module in (("gateway", gateway), ("agent", agent)):
        names = WATCHED.findall(Path(str(module.__file__)).read_text())
        found |= {f"trimtab_{program}_{name}": frozenset() for name in names}
    return found


def _series(registry: CollectorRegistry) -> Iterator[tuple[str, frozenset[str]]]:
    # What a registry holds is known to it alone: a metric with labels has no samples before its first.
    for collector in registry._collector_to_names:
        kind = getattr(collector, "_type", None)
        if kind not in SUFFIXES:
            continue
        for suffix in SUFFIXES[kind]:
            yield f"{collector._name}{suffix}", frozenset(collector._labelnames)  # type: ignore[attr-defined]


def rules() -> dict[str, str]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def queries(dashboard: Path) -> dict[str, str]:
    """Expressions of panels and variables, by where they stand."""
    found: dict[str, Any] = json.loads(dashboard.read_text())
    told = {
        f"{panel['title']}/{target['refId']}": target["expr"]
        for panel in found["panels"]
        for target in panel["targets"]
    }
    for variable in found["templating"]["list"]:
        if variable["type"] == "query":
            selector, _, label = variable["definition"].rpartition(", ")
            told[f"${variable['name']}"] = f"{selector.removeprefix('label_values(')} by ({label}"
    return told


EXPRESSIONS: Final = {
    **{f"alerts/{name}": expr for name, expr in rules().items()},
    **{f"{path.stem}/{place}": q for path in DASHBOARDS for place, q in queries(path).items()},
}


@cache
def known() -> Mapping[str, frozenset[str]]:
    return exported()


def asked(expression: str) -> list[tuple[str, frozenset[str]]]:
    """Each series that an expression names, with the labels of its selector and of all groupings."""
    text = re.sub(r'"[^"]*"', '""', expression)
    grouped = frozenset(
        label for group in re.findall(r"\bby\s*\(([^)]*)", text) for label in _words(group)
    )
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)?", " ", text)
    found = []
    for name, selector in re.findall(r"([A-Za-z_:][\w:]*)\b(?!\s*\()(\{[^}]*\})?", _no_spans(bare)):
        if name not in WORDS:
            labels = frozenset(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            found.append((name, labels | grouped))
    return found


def _no_spans(text: str) -> str:
    """Without durations and variables of Grafana, which look like names."""
    return re.sub(r"\[[^]]*\]|\$\w+|\b\d+[a-z]+\b|\boffset\s+\w+", " ", text)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


@pytest.mark.parametrize("place", EXPRESSIONS)
def test_what_is_asked_for_is_exported(place: str) -> None:
    found = asked(EXPRESSIONS[place])
    assert found, "no series is named"
    for name, labels in found:
        assert name in known(), f"nobody exports {name}"
        assert labels <= known()[name] | ADDED, f"{name} has no such labels"


def test_a_series_that_nobody_exports_would_be_seen() -> None:
    assert asked('sum by (a, le) (rate(x_total{b="by (c)"}[5m])) / 2 > y offset 5m') == [
        ("x_total", frozenset({"a", "b", "le"})),
        ("y", frozenset({"a", "le"})),
    ]


def test_there_is_a_test_for_every_alert_that_fires_and_one_where_it_must_not() -> None:
    told: dict[bool, set[str]] = {True: set(), False: set()}
    for path in (TOP / "tests" / "cluster" / "alerts").glob("*.yaml"):
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                told[bool(case["exp_alerts"])].add(case["alertname"])
    assert told == {True: set(rules()), False: set(rules())}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_read_by_any_grafana(path: Path) -> None:
    found = json.loads(path.read_text())
    assert found["uid"] == f"trimtab-{path.stem}"
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
    sources = {panel["datasource"]["uid"] for panel in found["panels"]}
    assert sources == {"${datasource}"}
    assert all(panel["description"] and panel["title"] for panel in found["panels"])
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in found["panels"]]
    assert not [(a, b) for a in places for b in places if a < b and _overlap(a, b)]


def _overlap(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    return ax < bx + bw and bx < ax + aw and ay < by + bh and by < ay + ah
