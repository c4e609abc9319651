"""Pages that need nothing else: no script, no font, no picture from elsewhere. Shared by the programs that make any. Pure.

They are pleasant by day and by night, on a phone and on paper; tests look at them in a real browser.
"""

from collections.abc import Sequence
from html import escape
from typing import Final


def document(title: str, body: str, more_style: str = "") -> str:
    """The whole page; `body` is HTML."""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}{more_style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def section(title: str, told: str, body: str) -> str:
    """A card with a heading and a sentence; `body` is HTML."""
    said = f"<p>{escape(told)}</p>" if told else ""
    return f"<section><h2>{escape(title)}</h2>{said}{body}</section>"


def tiles(values: Sequence[tuple[str, str]]) -> str:
    """A few figures, each above its name."""
    shown = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in values
    )
    return f'<div class="tiles">{shown}</div>'


def remarks(texts: Sequence[str]) -> str:
    """What the reader must know before the rest; nothing where there is nothing."""
    found = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<section class="warnings"><h2>Remarks</h2><ul>{found}</ul></section>' if found else ""


def number(value: float) -> str:
    """Digits in groups of three; at most two behind the point."""
    if float(value).is_integer():
        return f"{int(value):,}".replace(",", "\u202f")
    return f"{value:,.2f}".replace(",", "\u202f")


def percent(share: float) -> str:
    if 0 < share < 0.001:
        return "<\u202f0.1\u202f%"
    return f"{100 * share:.1f}\u202f%"


def bars(rows: Sequence[tuple[str, float, str]], kind: str = "c1") -> str:
    """One bar per row: name, size, and what is written behind it."""
    most = max((size for _, size, _ in rows), default=0) or 1
    lines = [
        f'<div class="row"><span class="name">{escape(name)}</span>'
        f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{escape(told)}">'
        f'<rect class="{kind}" width="{100 * size / most:.2f}" height="10"/></svg>'
        f'<span class="told">{escape(told)}</span></div>'
        for name, size, told in rows
    ]
    return f'<div class="bars">{"".join(lines)}</div>'


STYLE: Final = """
:root{--paper:#fbfaf7;--card:#fff;--ink:#1d2329;--soft:#5c6670;--line:#e3e0d8;--c1:#2f6fab;--c2:#d98e2b;--c3:#4d9a6a;
--warn:#8a5a00;--warnpaper:#fff6e0}
@media (prefers-color-scheme:dark){:root{--paper:#14181c;--card:#1c2228;--ink:#e6e8ea;--soft:#9aa4ad;--line:#2e363e;
--c1:#6aa9e0;--c2:#e3a857;--c3:#74c295;--warn:#f0c36d;--warnpaper:#2b2416}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:1.25rem 1rem 3rem}
.cards{columns:2 440px;column-gap:1rem}section{break-inside:avoid;margin:0 0 1rem}
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:0 0 .4rem}h3{font-size:.95rem;margin:1rem 0 .3rem}
p{margin:.2rem 0 .7rem;color:var(--soft)}
.digest{font:.75rem/1.4 ui-monospace,monospace;overflow-wrap:anywhere;margin:0}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem;min-width:0}
.tiles{margin:1rem 0;display:grid;grid-template-columns:repeat(auto-fit,minmax(90px,1fr));gap:.6rem}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:.6rem .8rem}
.tiles b{display:block;font-size:1.25rem;font-variant-numeric:tabular-nums}.tiles span{color:var(--soft);font-size:.85rem}
.warnings{background:var(--warnpaper);border-color:var(--warn)}.warnings ul{margin:0;padding-left:1.2rem}
.row{display:grid;grid-template-columns:minmax(6.5rem,38%) 1fr auto;gap:.6rem;align-items:center;padding:.15rem 0;font-size:.9rem}
.long .row{grid-template-columns:1fr auto;gap:.05rem .6rem;padding:.25rem 0}.long .name{grid-column:1/-1}
.name{overflow-wrap:anywhere}.told{min-width:3.6rem;text-align:right;color:var(--soft);font-variant-numeric:tabular-nums;white-space:nowrap}
.bar{width:100%;height:10px;background:var(--line);border-radius:5px;overflow:hidden}
.whole{width:100%;height:18px;border-radius:9px;display:block}
.plot{width:100%;max-width:620px;height:auto;display:block}.plot text{font-size:10px;fill:var(--soft)}
.axis{stroke:var(--line)}
rect.c1{fill:var(--c1)}rect.c2{fill:var(--c2)}rect.c3{fill:var(--c3)}
i{display:inline-block;width:.7em;height:.7em;border-radius:3px;margin-right:.4em}
i.c1{background:var(--c1)}i.c2{background:var(--c2)}i.c3{background:var(--c3)}
.legend,.kinds{list-style:none;margin:.6rem 0 0;padding:0;display:flex;flex-wrap:wrap;gap:.3rem 1.1rem;font-size:.9rem}
small{color:var(--soft);font-size:.82rem}
details{border-top:1px solid var(--line);margin-top:.6rem;padding-top:.5rem}summary{cursor:pointer;font-size:.92rem}
blockquote{margin:.6rem 0 0;padding:.1rem 0 .1rem .7rem;border-left:3px solid var(--line)}
blockquote p{margin:.1rem 0;color:var(--ink);white-space:pre-wrap;overflow-wrap:anywhere;font-size:.88rem}
blockquote .like{color:var(--soft);border-top:1px dashed var(--line);margin-top:.3rem;padding-top:.3rem}
@media print{:root{--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--c1:#2f6fab;--c2:#d98e2b;--c3:#4d9a6a;
--warn:#8a5a00;--warnpaper:#fff}
body{font-size:10.5pt}main{padding:0;max-width:none}.cards{columns:1}section,.tiles{margin-bottom:10pt}
section{break-inside:auto}
section{border-radius:4pt}h2,.row,blockquote,.plot,.tiles{break-inside:avoid}h2{break-after:avoid}
details::details-content{content-visibility:visible;height:auto;display:block}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
