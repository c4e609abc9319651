"""Whether a page can be read: on a phone, on a desk, by night and on paper. For tests in a real browser."""

import re

from tests.browser import Page

PHONE, DESK, SHEET = (390, 844), (1280, 900), (794, 1123)  # the last is A4 at 96 dots to the inch
# What is not in the page's width: everything that is seen must be.
TOO_WIDE = """
[...document.querySelectorAll('body *')].filter(e => {
  const r = e.getBoundingClientRect();
  return r.width > 0 && (r.right > document.documentElement.clientWidth + 1 || r.left < -1);
}).map(e => e.tagName + '.' + (e.getAttribute('class') || '')).slice(0, 5)
"""
SCROLLS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
COLOURS = """
(() => { const of = (e, p) => getComputedStyle(e)[p]; const s = document.querySelector('section');
  return {ink: of(s.querySelector('h2'), 'color'), soft: of(s.querySelector('small, p') || s, 'color'),
          card: of(s, 'backgroundColor'), bar: of(document.querySelector('rect.c1'), 'fill')}; })()
"""
SMALLEST = """
Math.min(...[...document.querySelectorAll('body *')].filter(e => !e.closest('svg') && e.offsetHeight &&
  [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())).map(e => parseFloat(getComputedStyle(e).fontSize)))
"""


async def fits(page: Page, width: int) -> None:
    bar = 20  # a scroll bar takes some of a desk's width
    assert width - bar < await page.asks("document.documentElement.clientWidth") <= width
    assert await page.asks(SCROLLS) <= 0, await page.asks(TOO_WIDE)
    assert await page.asks(TOO_WIDE) == []


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2.2 between two colours as the browser has computed them."""
    lights = sorted((luminance(one), luminance(other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
