"""Small charts as SVG, drawn by Matplotlib, in the colours of the page that they stand in.

Needs the extra `aligntune[report]`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Matplotlib wants fixed colours and the page has two themes, so each stand-in becomes the CSS variable.
_COLOURS: Final = {
    "train": "#fe0001", "eval": "#fe0002", "muted": "#fe0003", "line": "#fe0004", "good": "#fe0005", "bad": "#fe0006",
}  # fmt: skip
_WIDTH, _HEIGHT = 330, 150  # in points, which are the units of the drawing: two charts a row, one on a phone
_STYLE: Final = {"svg.fonttype": "none", "svg.hashsalt": "aligntune", "lines.linewidth": 1.4, "lines.markersize": 3.2}
_TICKS: Final = (1, 2, 2.5, 5, 10)
_FEW: Final = 12  # so few points get a dot each; a single one would draw no line at all

Series = dict[str, dict[float, float]]
"""Name of a line → step → value."""
_ITSELF: Mapping[str, str] = MappingProxyType({})


def number(value: float, digits: int = 4) -> str:
    """For people: 1,969 and 2.297 and 1.5e-4, with a true minus."""
    size = abs(value)
    if size and not 1e-3 <= size < 1e15:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    else:
        whole = float(value).is_integer() or size >= 10**digits
        text = f"{value:,.0f}" if whole else f"{value:,.{digits}g}"
    return re.sub("^-", "\N{MINUS SIGN}", text)


def chart(name: str, title: str, series: Series, tones: Mapping[str, str] = _ITSELF) -> dict[str, Any]:
    """What a template shows: heading, last values by line, and the drawing with its one sentence.

    Args:
        name: unlike that of any other chart of the page.
        title: the heading.
        series: the lines.
        tones: line → the page's CSS variable; one that is not there is called like its line.
    """
    last = {split: list(points.values())[-1] for split, points in series.items()}
    spoken = f"{title}: " + "; ".join(_spoken(split, list(points.items())) for split, points in series.items())
    return {"title": title, "last": last, "svg": _inline(_draw(series, tones), name, spoken)}


def _spoken(split: str, points: list[tuple[float, float]]) -> str:
    ends = (f"{number(value)} at step {number(step)}" for step, value in (points[0], points[-1]))
    return f"{split} {', '.join(ends)}"


def _draw(series: Series, tones: Mapping[str, str]) -> str:
    """The SVG text, the same for the same numbers whatever the user's Matplotlib style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72))
        axes = figure.add_axes((0.115, 0.125, 0.87, 0.855))
        for split, points in series.items():
            colour = _COLOURS[tones.get(split, split)]
            look: dict[str, Any] = {"color": colour, "gid": f"series-{split}", "clip_on": False}
            axes.plot(list(points), list(points.values()), "o-" if len(points) <= _FEW else "-", **look)
        _style(axes)
        out = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return out.getvalue()


def _style(axes: Axes) -> None:
    """Quiet axes: a few ticks, horizontal rules only."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=_TICKS))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=_TICKS))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda tick, _: number(tick, 6)))
    axes.margins(x=0.0, y=0.08)
    axes.set_xlim(left=0)
    axes.tick_params(length=0, pad=4, labelcolor=_COLOURS["muted"])
    axes.grid(axis="y", color=_COLOURS["line"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _inline(svg: str, name: str, spoken: str) -> Any:
    """The drawing as a part of the page: its colours and fonts are the page's, its ids clash with no other chart's."""
    from markupsafe import Markup, escape

    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font(-\w+)?: [^;\"]*;? ?", "", svg)
    for variable, stand_in in _COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    label = escape(spoken)
    head = f'<svg role="img" aria-label="{label}" viewBox="0 0 {_WIDTH} {_HEIGHT}"><title>{label}</title>'
    return Markup(re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1))  # noqa: S704 - drawn from numbers alone
