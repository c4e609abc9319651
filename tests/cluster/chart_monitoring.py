"""What the chart gives to Prometheus and Grafana, and whether the alerts fire when they should."""

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import pytest
import yaml
from tests.cluster.chart_rendering import CHART, REFUSED, Manifest, helm, named, of_kind, rendered
from tests.unit.house_monitoring import DASHBOARDS, EXPRESSIONS, rules

from trimtab_local import packages
from trimtab_local.layout import layout_from

ALERTS: Final = Path(__file__).parent / "alerts"
RULES: Final = CHART / "monitoring" / "alerts.yaml"
PROMETHEUS_RULE: Final = "--api-versions=monitoring.coreos.com/v1/PrometheusRule"
VARIABLES: Final = {"$__rate_interval": "5m", "$namespace": ".*", "$model": ".*"}
SHOWN: Final = "--set=metrics.dashboards.enabled=true"


@cache
def promtool() -> str:
    """Prometheus' own tool, from the package that the local cluster's Prometheus comes from."""
    layout = layout_from(os.environ)
    if not packages.has_prometheus(layout):
        packages.unpack_prometheus(layout, layout.logs / "packages.log")
    return str(packages.prometheus(layout).with_name("promtool"))


def checked(*arguments: str, folder: Path = ALERTS) -> "subprocess.CompletedProcess[str]":
    command = [promtool(), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", sorted(ALERTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_at_no_other_time(path: Path) -> None:
    done = checked("test", "rules", path.name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_that_does_not_fire_is_seen(tmp_path: Path) -> None:
    told = (ALERTS / "operator.yaml").read_text().replace("../../..", str(CHART.parents[1]))
    (tmp_path / "wrong.yaml").write_text(told.replace("0+60x20", "0+6x20"))
    assert checked("test", "rules", "wrong.yaml", folder=tmp_path).returncode != 0


def test_every_query_of_a_dashboard_can_be_parsed(tmp_path: Path) -> None:
    recorded = []
    for number, (place, query) in enumerate(sorted(EXPRESSIONS.items())):
        if "/$" not in place:
            filled = re.sub(r"\$\w+", lambda found: VARIABLES.get(found[0], found[0]), query)
            recorded.append({"record": f"query_{number}", "expr": filled})
    rules = {"groups": [{"name": "dashboards", "rules": recorded}]}
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump(rules))
    done = checked("check", "rules", "--lint=none", "queries.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(recorded)} rules found" in done.stdout


def test_the_rules_arrive_as_they_were_tested() -> None:
    assert of_kind(rendered(), "PrometheusRule") == []
    assert (
        of_kind(rendered(PROMETHEUS_RULE, "--set=metrics.alerts.enabled=false"), "PrometheusRule")
        == []
    )
    (rule,) = of_kind(
        rendered(PROMETHEUS_RULE, "--set=metrics.alerts.labels.release=p"), "PrometheusRule"
    )
    assert rule["spec"] == yaml.safe_load(RULES.read_text())
    assert rule["metadata"]["labels"]["release"] == "p"
    assert {r["alert"] for g in rule["spec"]["groups"] for r in g["rules"]} == set(rules())


def dashboards(*flags: str) -> list[Manifest]:
    found = of_kind(rendered(*flags), "ConfigMap")
    return [each for each in found if "-dashboard-" in named(each)]


def test_dashboards_come_when_they_are_wanted_and_as_they_are() -> None:
    assert dashboards() == []
    found = dashboards(SHOWN, "--set=metrics.dashboards.annotations.grafana_folder=Trimtab")
    told = {name: json.loads(text) for each in found for name, text in each["data"].items()}
    assert told == {f"trimtab-{p.name}": json.loads(p.read_text()) for p in DASHBOARDS}
    for each in found:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"] == {"grafana_folder": "Trimtab"}


def test_the_sidecars_label_is_the_users_choice() -> None:
    (label, *_) = [
        each["metadata"]["labels"]
        for each in dashboards(SHOWN, "--set=metrics.dashboards.labels.shown=yes")
    ]
    assert label["shown"] == "yes"


WRONG: Final = {
    "a label in a list": (
        [SHOWN, "--set-json=metrics.dashboards.labels.a=[]"],
        "/metrics/dashboards/labels/a",
    ),
    "alerts in words": (["--set-string=metrics.alerts.enabled=yes"], "/metrics/alerts/enabled"),
    "a label that is a number": (
        ['--set-json=metrics.alerts.labels={"a":1}'],
        "/metrics/alerts/labels/a",
    ),
}


@pytest.mark.parametrize(("flags", "place"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_refused_with_its_place(flags: list[str], place: str) -> None:
    assert not WRONG.keys() & REFUSED.keys()
    done = helm("template", "trimtab", str(CHART), "--set=registry.prefix=r.example.com/t", *flags)
    assert done.returncode != 0, done.stdout[-400:]
    assert place.strip("/").replace("/", ".") in done.stderr.replace("/", "."), done.stderr
