"""The history of a service in a real browser: on a phone, on a desk, by night and on paper."""

import base64
import re
from datetime import timedelta
from math import sin
from pathlib import Path

import pytest
from tests.browser import open_page
from tests.historyworld import drawn_history, story
from tests.readable import COLOURS, DESK, PHONE, SHEET, SMALLEST, contrast, fits, luminance

from trimtab_operator.domain.analysis.counters import Sample
from trimtab_operator.domain.history import courses
from trimtab_operator.domain.history.courses import Course
from trimtab_operator.domain.history.page import page as drawn
from trimtab_operator.domain.series import RawSeries

LINES = """
[...document.querySelectorAll('svg.over')].map(s => {
  const r = s.getBoundingClientRect();
  const lines = [...s.querySelectorAll('polyline')].map(l => l.getBoundingClientRect());
  return {width: r.width, height: r.height, lines: lines.length,
          within: lines.every(l => l.top >= r.top - 2 && l.bottom <= r.bottom + 2 && l.right <= r.right + 2)};
})
"""


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A page with everything in it, over a day, with names that are long."""
    told = await story(long="W" * 40)
    now = told.fake.clock.now()
    begin = (now - timedelta(hours=24)).timestamp()

    def series(version: str, first: int, last: int, high: float) -> RawSeries:
        points = (Sample(begin + 360 * n, high * (1 + 0.2 * sin(n))) for n in range(first, last))
        return RawSeries({"model": "bot", "version": version}, tuple(points))

    versions = [("bot-1", 0, 200), ("bot-2", 60, 241), ("bot-3", 239, 240)]
    curves = {
        Course.SHARE: courses.curves([series(*each, 0.6) for each in versions]),
        Course.ERRORS: courses.curves([series(*each, 0.03) for each in versions]),
        Course.DRIFT: courses.curves([series("", 100, 241, 0.8)]),
    }
    found = tmp_path / "history.html"
    found.write_text(drawn(drawn_history(told, curves)), encoding="utf-8")
    return found


@pytest.mark.parametrize("size", [PHONE, (320, 568), DESK], ids=["phone", "small phone", "desk"])
async def test_it_fits_the_screen_and_needs_nothing(
    file: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    async with open_page(tmp_path) as page:
        await page.becomes(*size)
        await page.opens(file)
        await fits(page, size[0])
        await page.asks("document.querySelectorAll('details').forEach(d => { d.open = true })")
        await fits(page, size[0])
        plots = await page.asks(LINES)
        ticks = await page.asks("document.querySelectorAll('svg.strip rect').length")
        assert await page.asks(SMALLEST) >= 12
        assert page.complaints == []
        assert page.asked_for == [file.as_uri()], "it needs nothing from anywhere"
    assert [p["lines"] for p in plots] == [3, 3, 1]
    assert all(p["within"] and p["height"] >= 100 and p["width"] >= 200 for p in plots), plots
    assert ticks >= 8


@pytest.mark.parametrize("dark", [False, True], ids=["by day", "by night"])
async def test_it_can_be_read(file: Path, tmp_path: Path, dark: bool) -> None:
    async with open_page(tmp_path) as page:
        await page.becomes(*PHONE, dark=dark)
        await page.opens(file)
        seen = await page.asks(COLOURS)
        lines = await page.asks(
            "[...document.querySelectorAll('polyline, line.mark')].map(l => getComputedStyle(l).stroke)"
        )
    assert contrast(seen["ink"], seen["card"]) >= 7
    assert contrast(seen["soft"], seen["card"]) >= 4.5
    # A third colour is orange, of which WCAG asks 3 only where nothing else tells the lines apart.
    assert all(contrast(line, seen["card"]) >= 2.4 for line in lines), lines
    assert (luminance(seen["card"]) < 0.1) == dark


async def test_on_paper_it_is_whole_and_light(file: Path, tmp_path: Path) -> None:
    async with open_page(tmp_path) as page:
        await page.becomes(*SHEET, media="print", dark=True)
        await page.opens(file)
        await fits(page, SHEET[0])
        seen = await page.asks(COLOURS)
        hidden = await page.asks(
            "[...document.querySelectorAll('details table')].filter(t => !t.checkVisibility()).length"
        )
        printed = await page.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    assert luminance(seen["card"]) > 0.9
    assert hidden == 0, "nobody can open what is folded on paper"
    sheets = len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed["data"])))
    assert 1 <= sheets <= 6
    assert page.complaints == []
