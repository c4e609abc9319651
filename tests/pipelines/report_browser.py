"""The data report and the picture of a lineage in a real browser: on a phone, on a desk, by night and on paper."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser import open_page
from tests.ociserver import FakeRegistry
from tests.pods import Pod, jsonl
from tests.preparedfiles import report_of
from tests.readable import COLOURS, DESK, PHONE, SHEET, SMALLEST, contrast, fits, luminance

from trimtab_api.v1alpha1.lineage import LineageGraph
from trimtab_pipelines.lineage.drawing import svg

LONG = "unbreakable" * 60
TEXTS = [
    "How do I read a file in Python?",
    "Wie lese ich eine Datei, deren Name Umlaute hat?",
    "ファイルを読むにはどうすればいいですか",
    "كيف أقرأ ملفا؟",
    LONG,
    "<b>not bold</b> & \N{PARTY POPPER} " * 20,
    "https://example.com/" + "a/very/long/address/" * 20,
]
# Every plot with the area of what is drawn in it, in pixels of the screen.
PLOTS = """
[...document.querySelectorAll('svg')].map(s => {
  const r = s.getBoundingClientRect();
  const drawn = [...s.querySelectorAll('rect')].map(x => x.getBoundingClientRect());
  return {kind: s.getAttribute('class'), width: r.width, height: r.height,
          area: drawn.reduce((sum, d) => sum + d.width * d.height, 0)};
})
"""


@pytest.fixture(scope="module")
def report(
    registry: FakeRegistry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A report with everything in it that makes pages too wide: long words, many labels, all scripts."""
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as environment:
        pod = Pod(root, registry, environment)
        records = [
            {
                "prompt": f"{TEXTS[n % len(TEXTS)]} {n}",
                "completion": f"answer {n} " * (1 + n % 40),
                "kind": f"a label that is long and is number {n % 30} {LONG[:80]}",
            }
            for n in range(600)
        ]
        pod.file(
            "/claims/claim/in.jsonl",
            jsonl(*records, *records[:40], {"prompt": "a", "completion": "b", "kind": "c"}),
        )
        result = pod.prepare(
            "pvc://claim/in.jsonl",
            columns={"label": "kind"},
            clean={"deduplicate": {"method": "MinHash"}, "characters": {"min": 8}},
        )
        html, figures = report_of(pod, result)
        file = root / "report.html"
        file.write_text(html, encoding="utf-8")
        yield file, figures


@pytest.mark.parametrize("size", [PHONE, (320, 568), DESK], ids=["phone", "small phone", "desk"])
async def test_the_report_fits_the_screen_and_says_nothing_in_the_console(
    report: tuple[Path, dict[str, Any]], tmp_path: Path, size: tuple[int, int]
) -> None:
    file, _ = report
    async with open_page(tmp_path) as page:
        await page.becomes(*size)
        await page.opens(file)
        await fits(page, size[0])
        await page.asks("document.querySelectorAll('details').forEach(d => { d.open = true })")
        await fits(page, size[0])
        assert await page.asks(SMALLEST) >= 12
        assert page.complaints == []
        assert page.asked_for == [file.as_uri()], "it needs nothing from anywhere"


async def test_every_plot_is_there_and_drawn(
    report: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    file, figures = report
    async with open_page(tmp_path) as page:
        await page.becomes(*PHONE)
        await page.opens(file)
        plots = await page.asks(PLOTS)
        title = await page.asks("document.title")
    kinds = [plot["kind"] for plot in plots]
    assert kinds.count("plot") >= 1, "the lengths"
    assert kinds.count("whole") >= 1, "the splits"
    assert kinds.count("bar") >= 10, "languages, labels, what was dropped"
    for plot in plots:
        assert min(plot["width"], plot["height"]) >= 5, plot
    assert all(plot["area"] > 100 for plot in plots if plot["kind"] in {"plot", "whole"})
    assert sum(plot["area"] > 5 for plot in plots if plot["kind"] == "bar") >= 10
    assert title == f"Prepared data: {figures['records']['kept']} records"


@pytest.mark.parametrize("dark", [False, True], ids=["by day", "by night"])
async def test_it_can_be_read(
    report: tuple[Path, dict[str, Any]], tmp_path: Path, dark: bool
) -> None:
    async with open_page(tmp_path) as page:
        await page.becomes(*PHONE, dark=dark)
        await page.opens(report[0])
        seen = await page.asks(COLOURS)
    assert contrast(seen["ink"], seen["card"]) >= 7
    assert contrast(seen["soft"], seen["card"]) >= 4.5
    assert contrast(seen["bar"], seen["card"]) >= 3
    assert (luminance(seen["card"]) < 0.1) == dark


async def test_on_paper_it_is_whole_and_light(
    report: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    async with open_page(tmp_path) as page:
        await page.becomes(*SHEET, media="print", dark=True)
        await page.opens(report[0])
        await fits(page, SHEET[0])
        seen = await page.asks(COLOURS)
        hidden = await page.asks(
            "[...document.querySelectorAll('details blockquote')].filter(b => !b.checkVisibility()).length"
        )
        examples = await page.asks("document.querySelectorAll('details blockquote').length")
        printed = await page.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    assert luminance(seen["card"]) > 0.9, "ink is dear, also for those who work by night"
    assert examples > 0
    assert hidden == 0, "nobody can open what is folded on paper"
    sheets = len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed["data"])))
    assert 1 <= sheets <= 30
    assert page.complaints == []


async def test_names_of_any_width_stay_in_their_boxes(tmp_path: Path) -> None:
    wide = ["W" * 63, "i" * 63, "名前" * 30, "s3://bucket/" + "m" * 200]
    nodes = [
        {
            "id": str(n),
            "kind": "ModelVersion",
            "name": name,
            "digest": "sha256:" + "a" * 64,
            "note": "W" * 90,
        }
        for n, name in enumerate(wide)
    ]
    wires = [{"source": str(n), "target": "0", "relation": "BaseOf"} for n in range(1, len(wide))]
    graph = LineageGraph.model_validate({"nodes": nodes, "edges": wires, "omitted": 3})
    file = tmp_path / "lineage.svg"
    file.write_text(svg(graph, "Lineage of a <version>"), encoding="utf-8")
    async with open_page(tmp_path) as page:
        await page.becomes(*DESK)
        await page.opens(file)
        boxes = await page.asks(
            "[...document.querySelectorAll('g')].map(g => { const b = g.querySelector('.box').getBoundingClientRect();"
            " const i = g.querySelector('svg'); const r = i.getBoundingClientRect(); return {box: b.right, inner: b.left + 12 "
            "+ i.width.baseVal.value, clips: getComputedStyle(i).overflow}; })"
        )
        shown = await page.asks("document.documentElement.textContent")
    assert len(boxes) == len(wide)
    for box in boxes:
        assert box["inner"] < box["box"], json.dumps(box)
        assert box["clips"] == "hidden"
    assert "and 3 more that are not shown" in shown
    assert page.complaints == []
