"""`report.html`: one self-contained page about a run, without a script and without the network.

Needs the extra `aligntune[report]` (Jinja2 and Matplotlib), which is imported only while a report is written. What
the model wrote is never trusted: Jinja escapes all of it, and the page's own policy forbids scripts and fetches.
"""

from __future__ import annotations

import io
import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from aligntune_core.runs.storage import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The charts, in the order of the page: the name in metrics.jsonl, and the heading. One without values is left out.
CHARTS: Final = {
    "loss": "Loss",
    "learning_rate": "Learning rate",
    "reward": "Reward",
    "rewards/accuracies": "Preference accuracy",
    "accuracy": "Preference accuracy",
    "rewards/margins": "Margin of the implicit rewards",
    "kl": "KL to the reference model",
    "clip_ratio/region_mean": "Clipped share of the tokens",
    "completions/mean_length": "Completion length (tokens)",
    "completions/clipped_ratio": "Share of answers cut at the longest length",
    "value_loss": "Value loss",
    "dynamic_sampling/replaced": "Share of groups replaced",
    "grad_norm": "Gradient norm",
    "tokens_per_second": "Tokens per second",
}

# Matplotlib wants fixed colours and the page has two themes, so each stand-in becomes the CSS variable.
_COLOURS: Final = {"train": "#fe0001", "eval": "#fe0002", "muted": "#fe0003", "line": "#fe0004"}
_WIDTH, _HEIGHT = 330, 150  # in points, which are the units of the drawing: two charts a row, one on a phone
_STYLE: Final = {"svg.fonttype": "none", "svg.hashsalt": "aligntune", "lines.linewidth": 1.4, "lines.markersize": 3.2}
_TICKS: Final = (1, 2, 2.5, 5, 10)
_FEW: Final = 12  # so few points get a dot each; a single one would draw no line at all

Series = dict[str, dict[float, float]]  # split → step → value


def write_report(run_dir: Path) -> Path:
    """Write `run_dir/report.html` from run.json, metrics.jsonl and samples.jsonl; only the first must be there.

    The same files give the same bytes. A report that is there is replaced at once, never in parts.

    Returns:
        The path of the page.

    Raises:
        ImportError: Jinja2 or Matplotlib is missing.
        OSError: run.json cannot be read.
        StorageError: the page cannot be written; the old one is intact.
        ValueError: run.json is not JSON.
    """
    page = _render(_context(run_dir)).encode("utf-8", "replace")  # a sample may hold half a surrogate pair
    path = run_dir / "report.html"
    write_text(path, page.decode())
    return path


def _render(context: Mapping[str, Any]) -> str:
    import jinja2

    env = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters.update(number=number, value=value_text)
    template = resources.files("aligntune_core.runs").joinpath("report.html.j2").read_text("utf-8")
    return env.from_string(template).render(context)


def _context(run_dir: Path) -> dict[str, Any]:
    """All that the template uses; every part is there, if only as None or empty."""
    run = json.loads((run_dir / "run.json").read_bytes())
    metrics = _metrics(run_dir / "metrics.jsonl")
    config, given = _mapping(run, "config"), _mapping(run, "given")
    return {
        "run": defaultdict(lambda: None, run),
        "model": _model(config.get("model_name") or given.get("model_name")),
        "weights": (run.get("model_path") or "").removeprefix(f"{run_dir.absolute()}/"),
        "figures": list(_key_figures(run, metrics)),
        "charts": [_chart(name, title, metrics[name]) for name, title in CHARTS.items() if metrics[name]],
        "samples": _samples(run_dir / "samples.jsonl"),
        "selection": defaultdict(lambda: None, _mapping(run, "selection")),
        "given": {name: config.get(name, value) for name, value in given.items()},
        "others": {name: value for name, value in config.items() if name not in given},
        "parts": {part: _mapping(run, part) for part in ("data", "resolved", "versions")},
    }


def _mapping(run: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The part of run.json; a run that died early has not written them all."""
    return dict(run.get(key) or {})


def _model(name: str | None) -> str:
    """A hub name as it is, a local folder by its last part; the whole path stands among the settings."""
    if not name:
        return "a model passed in from Python"
    return Path(name).name or name if name.startswith((".", "/", "~")) else name


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows that can be read: the file may be absent, and a killed run leaves a torn last line."""
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and _finite(row.get("step")):
            yield row


def _finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _metrics(path: Path) -> defaultdict[str, Series]:
    """Name → split → step → value, by rising step. Where a resumed run repeats a step, its later value stands."""
    found: defaultdict[str, Series] = defaultdict(dict)
    for row in _rows(path):
        split = "eval" if row.get("split") == "eval" else "train"
        for name, value in row.items():
            if name != "step" and _finite(value):
                found[name].setdefault(split, {})[row["step"]] = value
    for name, series in found.items():
        found[name] = {split: dict(sorted(series[split].items())) for split in ("train", "eval") if split in series}
    return found


def _samples(path: Path) -> list[dict[str, Any]]:
    """For each prompt, in the order of the file: the completions before and after, and the step of the latter."""
    found: dict[str, dict[float, str]] = defaultdict(dict)
    for row in _rows(path):
        if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str):
            found[row["prompt"]][row["step"]] = row["completion"]
    return [
        {"prompt": prompt, "before": said.pop(0, None), "step": (last := max(said, default=0)), "after": said.get(last)}
        for prompt, said in found.items()
    ]


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


def duration(seconds: float) -> str:
    """12.3 s, 2 min 3 s, 1 h 7 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def value_text(value: object) -> str:
    """A setting as it was, never rounded: it may be copied into the next run."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_FIGURES: Final = (
    ("reward", "train", "Reward"),
    ("reward", "eval", "Eval reward"),
    ("loss", "train", "Final loss"),
    ("loss", "eval", "Eval loss"),
)


def _key_figures(run: Mapping[str, Any], metrics: Mapping[str, Series]) -> Iterator[tuple[str, str, str]]:
    """(label, value, small print) of each figure that the run has."""
    for name, split, label in _FIGURES:
        if "reward" in metrics and name == "loss":  # the loss of a policy says nothing of how good it is
            continue
        if values := list(metrics[name].get(split, {}).values()):
            yield label, number(values[-1]), f"from {number(values[0])}" if len(values) > 1 else ""
    if _finite(done := run.get("steps_done")):
        planned = run.get("steps_planned")
        yield "Steps", number(done), f"of {number(planned)}" if _finite(planned) else ""
    if _finite(seconds := run.get("seconds")):
        yield "Wall time", duration(seconds), ""
    if speeds := metrics["tokens_per_second"].get("train"):
        yield "Tokens per second", number(statistics.median(speeds.values()), 3), "median"


def _chart(name: str, title: str, series: Series) -> dict[str, Any]:
    """What the template shows of one series: heading, last values by split, and the drawing with its one sentence."""
    last = {split: list(points.values())[-1] for split, points in series.items()}
    spoken = f"{title}: " + "; ".join(_spoken(split, list(points.items())) for split, points in series.items())
    return {"title": title, "last": last, "svg": _inline(_draw(series), name, spoken)}


def _spoken(split: str, points: list[tuple[float, float]]) -> str:
    ends = (f"{number(value)} at step {number(step)}" for step, value in (points[0], points[-1]))
    return f"{split} {', '.join(ends)}"


def _draw(series: Series) -> str:
    """The SVG text, the same for the same numbers whatever the user's Matplotlib style."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72))
        axes = figure.add_axes((0.115, 0.125, 0.87, 0.855))
        for split, points in series.items():
            look: dict[str, Any] = {"color": _COLOURS[split], "gid": f"series-{split}", "clip_on": False}
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
