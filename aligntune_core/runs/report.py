"""`report.html`: one self-contained page about a run, without a script and without the network.

Needs the extra `aligntune[report]` (Jinja2 and Matplotlib), which is imported only while a report is written. What
the model wrote is never trusted: Jinja escapes all of it, and the page's own policy forbids scripts and fetches.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeGuard

from aligntune_core.runs.charts import Series, chart, number
from aligntune_core.runs.pages import render
from aligntune_core.runs.storage import write_text

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
    path = run_dir / "report.html"
    write_text(path, render("report.html.j2", _context(run_dir)))
    return path


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
        "charts": [chart(name, title, metrics[name]) for name, title in CHARTS.items() if metrics[name]],
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


def duration(seconds: float) -> str:
    """12.3 s, 2 min 3 s, 1 h 7 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


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
