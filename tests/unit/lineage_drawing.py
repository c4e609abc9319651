"""The picture of a lineage: every node where it belongs, nothing that a text could break, and a command that says what is wrong."""

import itertools
import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.servingbuilders import a_ready_version

from trimtab_api.v1alpha1.lineage import LineageGraph
from trimtab_pipelines.__main__ import main
from trimtab_pipelines.lineage.drawing import svg

NODES = [
    {"id": "v", "kind": "ModelVersion", "name": "bot-1", "digest": "sha256:" + "a" * 64},
    {"id": "j", "kind": "FineTuneJob", "name": "train", "note": "by <alice>"},
    {"id": "d", "kind": "Data", "name": "tickets"},
    {"id": "s", "kind": "Source", "name": "s3://bucket/" + "x" * 60 + "/a&b.jsonl"},
    {"id": "b", "kind": "Model", "name": "base"},
    {"id": "i", "kind": "InferenceService", "name": "chat"},
]
EDGES = [("s", "d"), ("d", "j"), ("j", "v"), ("b", "v"), ("b", "j"), ("v", "i")]


def a_graph(edges: list[tuple[str, str]] = EDGES, omitted: int = 0) -> LineageGraph:
    wire = [{"source": a, "target": b, "relation": "Made"} for a, b in edges]
    return LineageGraph.model_validate({"nodes": NODES, "edges": wire, "omitted": omitted})


def columns(picture: str) -> dict[str, float]:
    """Where each node's box begins, by the name in its tooltip."""
    root = ET.fromstring(picture)  # noqa: S314 - our own
    space = "{http://www.w3.org/2000/svg}"
    found = {}
    for group in root.iter(f"{space}g"):
        title, box = group.find(f"{space}title"), group.find(f"{space}rect")
        assert title is not None
        assert box is not None
        found[str(title.text).split("\n")[1]] = float(box.attrib["x"])
    return found


def test_everything_stands_right_of_what_it_rests_on() -> None:
    at = columns(svg(a_graph(), "Lineage of bot-1"))
    source = NODES[3]["name"]
    assert at[str(source)] < at["tickets"] < at["train"] < at["bot-1"] < at["chat"]
    assert at["base"] == at["tickets"], (
        "a base stands beside what it is used with, not at the far left"
    )


def test_whatever_a_name_holds_it_is_text() -> None:
    picture = svg(a_graph(), 'a "title" <of> & all')
    ET.fromstring(picture)  # noqa: S314
    assert "<alice>" not in picture
    assert "by &lt;alice&gt;" in picture


def test_boxes_do_not_lie_on_each_other_and_none_is_outside() -> None:
    picture = svg(a_graph(), "x")
    boxes = re.findall(r'class="box" x="(\d+)" y="([\d.]+)" width="(\d+)" height="(\d+)"', picture)
    places = [tuple(map(float, box)) for box in boxes]
    assert len(places) == len(NODES) == len({(x, y) for x, y, _, _ in places})
    _, _, width, height = map(float, re.findall(r'viewBox="([^"]*)" width', picture)[0].split())
    assert all(x + w <= width and y + h <= height for x, y, w, h in places)
    ordered = sorted(places)
    for (x, y, _, h), (x2, y2, _, _) in itertools.pairwise(ordered):
        assert x2 > x or y2 >= y + h


def test_a_circle_ends() -> None:
    ET.fromstring(svg(a_graph([("v", "j"), ("j", "v"), ("d", "j")]), "x"))  # noqa: S314


def test_what_is_left_out_is_told() -> None:
    assert "and 7 more that are not shown" in svg(a_graph(omitted=7), "x")


def test_the_command_draws_what_kubectl_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = {"lineage": a_graph().to_wire()}
    version = {
        "kind": "ModelVersion",
        **a_ready_version(status=status).model_dump(mode="json", by_alias=True),
    }
    file = tmp_path / "version.json"
    file.write_text(json.dumps(version))
    assert main(["lineage", str(file)]) == 0
    assert capsys.readouterr().out == svg(a_graph(), "Lineage of bot-1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("nothing", "this is no JSON object", id="no JSON"),
        pytest.param("[]", "this is no JSON object", id="a list"),
        pytest.param('{"kind": "List", "items": []}', "no ModelVersion but List", id="several"),
        pytest.param('{"kind": "ModelVersion"}', "metadata: Field required", id="half of one"),
        pytest.param(None, "cannot be read", id="no file"),
    ],
)
def test_what_is_no_version_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, says: str
) -> None:
    file = tmp_path / "version.json"
    if text is not None:
        file.write_text(text)
    assert main(["lineage", str(file)]) == 1
    assert says in capsys.readouterr().err


def test_a_version_that_nobody_has_looked_at_has_no_picture_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "version.json"
    file.write_text(
        json.dumps(
            {"kind": "ModelVersion", **a_ready_version().model_dump(mode="json", by_alias=True)}
        )
    )
    assert main(["lineage", str(file)]) == 1
    assert "no status.lineage yet" in capsys.readouterr().err
