"""Turns measured rows into a text table, a Markdown table and a chart. Pure functions: no clock, no server, no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from xml.sax.saxutils import escape

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


@dataclass(frozen=True)
class Row:
    """One scenario's medians, natsc beside nats-server."""

    name: str
    """Short and unique: what --only matches."""
    group: str
    title: str
    unit: str
    """A key of UNITS."""
    natsc: float
    reference: float
    more_is_better: bool = True
    detail: dict[str, Any] = field(default_factory=dict)
    """Medians that explain the row: CPU a message, how busy server and load generator were."""

    @property
    def ratio(self) -> float:
        """How many times better natsc is: above 1 is in its favour, whether more is better or less."""
        better, worse = (self.natsc, self.reference) if self.more_is_better else (self.reference, self.natsc)
        return better / worse if worse else 0.0

    def as_json(self) -> dict[str, Any]:
        """The row for results.json."""
        return {**asdict(self), "ratio": round(self.ratio, 3)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Row:
        """The row back from results.json."""
        return cls(**{k: v for k, v in data.items() if k != "ratio"})


def scaled(value: float, suffix: str) -> str:
    """Three significant digits with k or M: "1.23 M/s"."""
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{value / limit:.3g} {letter}{suffix}"
    return f"{value:.3g} {suffix}".rstrip()


UNITS: dict[str, Callable[[float], str]] = {
    "msgs/s": lambda v: scaled(v, "/s"),
    "us": lambda v: f"{v:.0f} µs" if v < 1000 else f"{v / 1000:.3g} ms",
    "ms": lambda v: f"{v:.1f} ms",
    "bytes": lambda v: f"{v / 1e6:.1f} MB" if v >= 1e5 else f"{v / 1e3:.3g} KB" if v >= 1e3 else f"{v:.0f} B",
    "%": lambda v: f"{v:.0f} %",
}
"""How a value of each unit is written."""


def shown(row: Row) -> tuple[str, str, str]:
    """natsc's value, nats-server's, and the ratio, as a person reads them."""
    write = UNITS[row.unit]
    return write(row.natsc), write(row.reference), f"{row.ratio:.2f}×"


def text_line(row: Row) -> str:
    """A row for the terminal."""
    natsc, reference, ratio = shown(row)
    line = f"{row.name:<16} natsc {natsc:>11}   nats-server {reference:>11}   {ratio:>7}"
    cpu, busy = row.detail.get("cpu_ratio"), row.detail.get("natsc", {}).get("generator_busy")
    if cpu:
        line += f"   CPU a message {cpu:.2f}× less"
    if busy is not None and busy > 0.95:
        line += "   (load generator at its limit)"
    return line


def grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by group, in order of first appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def markdown(rows: Sequence[Row], about: str) -> str:
    """The tables of docs/performance.md, with `about` (machine, versions, date) above them."""
    lines = [about, ""]
    for group, members in grouped(rows).items():
        lines += [f"### {group}", "", "| scenario | natsc | nats-server | ratio |", "|---|---:|---:|---:|"]
        lines += [f"| {row.title} (`{row.name}`) | {' | '.join(shown(row))} |" for row in members]
        lines.append("")
    return "\n".join(lines)


def replace_between(text: str, new: str) -> str:
    """`text` with what stands between its markers replaced. Raises ValueError where a marker is missing."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{BEGIN} and {END} must both stand in the page")
    return f"{head}{BEGIN}\n\n{new.strip()}\n\n{END}{tail}"


# ---- the chart: horizontal bars, on a background of its own so that it reads on light and dark pages ----

WIDTH, LABEL_X, BAR_X, BAR_END, ROW_H, GROUP_H, TOP_H = 860, 24, 270, 600, 24, 34, 64

NOISE = 0.1
"""Bars whose ratio is this near to 1 are grey: neither side is better."""

STYLE = """
  .page { fill: #ffffff; stroke: #d0d7de; } .text { fill: #1f2328; } .soft { fill: #59636e; }
  .good { fill: #1a7f64; } .even { fill: #818b98; } .poor { fill: #bc6c25; }
  .one { stroke: #59636e; } .grid { stroke: #d0d7de; }
  .halo { fill: #ffffff; stroke: #ffffff; stroke-width: 4px; }
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; }
  .small { font-size: 12px; } .h1 { font-size: 16px; } .bold { font-weight: 600; } .end { text-anchor: end; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #151b23; stroke: #3d444d; } .text { fill: #f0f6fc; } .soft { fill: #9198a1; }
    .good { fill: #3fb68b; } .even { fill: #656c76; } .poor { fill: #e09b57; }
    .one { stroke: #9198a1; } .grid { stroke: #3d444d; } .halo { fill: #151b23; stroke: #151b23; }
  }
"""


def svg_text(x: float, y: float, text: str, css: str) -> str:
    """A text element; `css` is a list of classes."""
    return f'<text x="{x:g}" y="{y:g}" class="{css}">{escape(text)}</text>'


def axis_steps(largest: float) -> list[int]:
    """Whole ratios for the grid: 1 and at most six more, up to the first one that holds the largest."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000, 10**9) if largest <= 6 * s)
    steps = [1]
    while steps[-1] < largest or len(steps) < 2:
        steps.append((steps[-1] // step + 1) * step)
    return steps


def svg_row(row: Row, y: float, scale: float) -> list[str]:
    """Label, bar, ratio and both values of one row, whose top is at y; `scale` is pixels a unit of ratio.

    The ratio stands on a halo, which hides the grid line behind it.
    """
    natsc, reference, ratio = shown(row)
    length = max(2.0, row.ratio * scale)
    css = "good" if row.ratio > 1 + NOISE else "poor" if row.ratio < 1 - NOISE else "even"
    return [
        f"<g><title>{escape(f'{row.title}: natsc {natsc}, nats-server {reference}')}</title>",
        svg_text(LABEL_X, y + 16, row.title, "text"),
        f'<rect x="{BAR_X}" y="{y + 4:g}" width="{length:.1f}" height="{ROW_H - 8}" rx="2" class="{css}"/>',
        svg_text(BAR_X + length + 6, y + 16, ratio, "halo bold"),
        svg_text(BAR_X + length + 6, y + 16, ratio, "text bold"),
        svg_text(WIDTH - 110, y + 16, natsc, "text end"),
        svg_text(WIDTH - 20, y + 16, reference, "soft end"),
        "</g>",
    ]


def svg(rows: Sequence[Row], about: str) -> str:
    """The chart: a bar a row as long as its ratio, a line at 1, and the values behind it.

    Below stands `about`: what comes before its first semicolon in one line, the rest in a second.
    """
    groups = grouped(rows)
    height = TOP_H + len(groups) * GROUP_H + len(rows) * ROW_H + 64
    steps = axis_steps(max((row.ratio for row in rows), default=1.0))
    scale = (BAR_END - BAR_X) / steps[-1]
    bottom = height - 60
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img">',
        f"<title>natsc beside nats-server</title><style>{STYLE}</style>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" class="page"/>',
        svg_text(LABEL_X, 32, "natsc beside nats-server: how many times better", "text bold h1"),
        svg_text(WIDTH - 110, TOP_H - 8, "natsc", "text bold end"),
        svg_text(WIDTH - 20, TOP_H - 8, "nats-server", "soft bold end"),
    ]
    for step in steps:
        x = BAR_X + step * scale
        out.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP_H}" y2="{bottom}" class="{"one" if step == 1 else "grid"}"/>'
        )
        out.append(f'<text x="{x:.1f}" y="{TOP_H - 8}" class="soft" text-anchor="middle">{step}×</text>')
    y = float(TOP_H)
    for group, members in groups.items():
        out.append(svg_text(LABEL_X, y + 24, group, "text bold"))
        y += GROUP_H
        for row in members:
            out += svg_row(row, y, scale)
            y += ROW_H
    machine, _, versions = about.partition("; ")
    out += [
        svg_text(LABEL_X, height - 36, machine, "soft small"),
        svg_text(LABEL_X, height - 18, versions, "soft small"),
        "</svg>",
    ]
    return "\n".join(out) + "\n"
