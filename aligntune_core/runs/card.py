"""The model card: what a run was made of and what was measured, as a README.md that the hub reads.

It is made from `run.json` and `metrics.jsonl` alone. A card is made public, so it names files without their folders,
and leaves out what looks like a secret.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from aligntune_core.algorithms import ALGORITHMS
from aligntune_core.data.source import HUB_NAME, looks_like_path
from aligntune_core.runs.folder import METRICS, read_run
from aligntune_core.runs.metrics import read
from aligntune_core.runs.public import last_part, on_hub, several, told
from aligntune_core.saved_values import MergeReport

Table = Sequence[Sequence[object]]

_PLACE = ("step", "epoch", "time", "split")
_HERE = frozenset({"output_dir", "overwrite", "resume"})
"""Settings that say nothing of the model."""
_PIPELINES = {
    "text_classification": "text-classification",
    "token_classification": "token-classification",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What a card tells of.

    Attributes:
        name: the heading.
        run: `run.json`; empty where no run of ours made the model.
        rows: those of `metrics.jsonl`.
        base: the base of an adapter that is saved alone, or that was merged.
        adapter: the model is saved as an adapter.
        merged: how the adapter was merged into its base.
    """

    name: str
    run: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    base: str | None = None
    adapter: bool = False
    merged: MergeReport | None = None

    @classmethod
    def of(
        cls,
        run_dir: Path,
        *,
        base: str | None,
        adapter: bool,
        merged: MergeReport | None = None,
        step: int | None = None,
    ) -> Card:
        """The card of a run's model, or of its checkpoint after `step`."""
        run, rows = read_run(run_dir) or {}, read(run_dir / METRICS)
        if step is not None:
            run["steps_done"], rows = step, [row for row in rows if row.get("step", 0) <= step]
        name = str(run.get("run_id") or run_dir.absolute().name)
        return cls(name, run, rows, base, adapter, merged)

    @classmethod
    def of_model(cls, model: Path) -> Card:
        """The card of the model that a run saved into its folder."""
        adapter = model / "adapter_config.json"
        base = json.loads(adapter.read_text("utf-8")).get("base_model_name_or_path") if adapter.exists() else None
        return cls.of(model.parent, base=base, adapter=adapter.exists())

    def text(self) -> str:
        """The whole README.md; the same run gives the same text."""
        parts = [self._about(), *self._data(), *self._measured(), *self._merge(), *self._settings(), *self._versions()]
        front = yaml.safe_dump(self.front(), sort_keys=False, allow_unicode=True, width=1000)
        return f"---\n{front}---\n\n" + "\n\n".join([f"# {_cell(self.name)}", *parts]) + "\n"

    # the front matter

    def front(self) -> dict[str, Any]:
        """What the hub reads. Unknown things, the licence among them, are left out."""
        found: dict[str, Any] = {
            "base_model": self.hub_base(),
            "library_name": "peft" if self.adapter else "transformers",
            "pipeline_tag": self._pipeline(),
            "tags": ["aligntune", *self._tags()],
            "datasets": self._hub_datasets(),
            "model-index": self._index(),
        }
        return {name: value for name, value in found.items() if value}

    def hub_base(self) -> str | None:
        """The base's name, where it is one on the hub: the run says it, and without a run the disk."""
        given, origin = _part(self.run, "config").get("model_name"), _part(self.run, "origin")
        if self.base in (None, given):
            return next(iter(on_hub(self.run, "model_name")), None)
        if "base" in origin:
            return self.base if origin["base"] == "hub" else None
        here = looks_like_path(str(self.base)) or Path(str(self.base)).expanduser().exists()
        return self.base if HUB_NAME.match(str(self.base)) and not here else None

    def base_name(self) -> str | None:
        """The base's name without folders; None where there is none."""
        base = self.base or _part(self.run, "config").get("model_name")
        return self.hub_base() or (last_part(str(base)) if base else None)

    def _hub_datasets(self) -> list[str]:
        return list(dict.fromkeys([*on_hub(self.run, "dataset_name"), *on_hub(self.run, "eval_dataset_name")]))

    def _pipeline(self) -> str | None:
        if self.run.get("algorithm") == "reward":
            return "text-classification"
        if found := _PIPELINES.get(str(self.run.get("task"))):
            return found
        return "text-generation" if self.run.get("model_type") == "causal_lm" else None

    def _tags(self) -> Iterator[str]:
        if algorithm := self.run.get("algorithm"):
            yield str(algorithm)
        if self.adapter:
            yield "lora"

    def _index(self) -> list[dict[str, Any]]:
        """The last held-back numbers, in the hub's form."""
        last = self._held_back()[-1:]
        numbers = _numbers(last[0]) if last else {}
        if not numbers:
            return []
        data = self._names("eval_dataset_name") or self._names("dataset_name") or "rows"
        task = self._pipeline() or "other"
        result = {
            "task": {"type": task},
            "dataset": {"name": data, "type": data},
            "metrics": [{"type": name, "name": f"held-back {name}", "value": v} for name, v in numbers.items()],
        }
        return [{"name": self.name, "results": [result]}]

    # the text

    def _about(self) -> str:
        run, config, resolved = self.run, _part(self.run, "config"), _part(self.run, "resolved")
        known = ALGORITHMS.get(str(run.get("algorithm")))
        title = known.title if known else run.get("algorithm")
        rows = [
            ("base model", self.base_name()),
            ("algorithm", title),
            ("source", known.paper if known else None),
            ("task", run.get("task")),
            ("saved as", self._saved_as(config)),
            ("parameters", _count(resolved.get("parameters"))),
            ("of them trained", _count(resolved.get("trained_parameters"))),
            ("steps", run.get("steps_done")),
            ("backend", _part(run, "selection").get("backend")),
        ]
        return _table(("", ""), [(name, value) for name, value in rows if value not in (None, "")])

    def _saved_as(self, config: Mapping[str, Any]) -> str:
        if self.merged is not None:
            return f"a full model in {self.merged.dtype}"
        rank = f" of rank {config['lora_r']}" if "lora_r" in config else ""
        return f"a LoRA adapter{rank}; it needs its base model" if self.adapter else "a full model"

    def _data(self) -> Iterator[str]:
        config, data = _part(self.run, "config"), _part(self.run, "data")
        if not data:
            return
        source = self._names("dataset_name") or data.get("source")  # a run without the setting had rows in memory
        rows = [("trained on", source, _count(data.get("rows")), data.get("sha256"))]
        if config.get("eval_dataset_name"):
            rows.append(("evaluated on", self._names("eval_dataset_name"), None, None))
        elif config.get("eval_fraction"):
            rows.append(("evaluated on", f"a share of {config['eval_fraction']:g} that was held back", None, None))
        yield "## Data"
        yield _table(("", "name", "rows", "SHA-256"), rows)

    def _names(self, setting: str) -> str:
        """What a setting names, for a line of text."""
        value = _part(self.run, "config").get(setting)
        return ", ".join(map(str, several(told(self.run, setting, value))))

    def _held_back(self) -> list[Mapping[str, Any]]:
        return [row for row in self.rows if row.get("split") == "eval"]

    def _measured(self) -> Iterator[str]:
        """The first and the last evaluation, and the last rows of training."""
        held_back, trained = self._held_back(), [row for row in self.rows if row.get("split") == "train"]
        if not held_back and not trained:
            return
        yield "## Measured"
        if held_back:
            first, last = held_back[0], held_back[-1]
            columns = [first, last] if len(held_back) > 1 else [last]
            header = ("on held-back rows", *(_step(row) for row in columns))
            yield _table(header, [(n, *(_number(row.get(n)) for row in columns)) for n in _numbers(last)])
        if trained:
            numbers = _numbers(trained[-1])
            yield _table((f"in training, {_step(trained[-1])}", ""), [(n, _number(v)) for n, v in numbers.items()])

    def _merge(self) -> Iterator[str]:
        report = self.merged
        if report is None:
            return
        yield "## Merged"
        told = [
            f"The logits of this model differ from those of the base with its adapter by at most "
            f"{report.difference:.3g} on rows of fixed tokens; rounding to {report.dtype} explains "
            f"{report.tolerance:.3g}."
        ]
        if report.effect:
            told.append(f"The adapter itself changes them by up to {report.effect:.3g}.")
        if report.note:
            told.append(f"{report.note[0].upper()}{report.note[1:]}.")
        yield " ".join(told)

    def _settings(self) -> Iterator[str]:
        given = {k: told(self.run, k, v) for k, v in _part(self.run, "given").items() if k not in _HERE}
        if not given:
            return
        yield "## Settings"
        yield "Those that were given; the others had the defaults of the version below."
        yield _fenced(yaml.safe_dump(given, sort_keys=True, allow_unicode=True), "yaml")

    def _versions(self) -> Iterator[str]:
        versions = _part(self.run, "versions")
        if versions:
            yield "## Versions"
            yield _table(("package", "version"), sorted(versions.items()))


def _part(run: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of run.json; an early or an edited one may lack it."""
    found = run.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """What was measured in a row of metrics: its finite numbers."""
    return {
        name: value
        for name, value in row.items()
        if name not in _PLACE and isinstance(value, int | float) and math.isfinite(value)
    }


def _number(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, int | float) else ""


def _count(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None


def _step(row: Mapping[str, Any]) -> str:
    step = row.get("step")
    return "before training" if step == 0 else f"after step {step}"


def _cell(value: object) -> str:
    """Text within a line of Markdown: a name or a setting may hold anything."""
    text = "" if value is None else " ".join(str(value).split())
    return re.sub(r"([\\`*\[\]<>|#])", r"\\\1", text)


def _table(header: Sequence[str], rows: Table) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(c if c == "---" else _cell(c) for c in line) + " |" for line in lines)


def _fenced(text: str, language: str) -> str:
    """A block that no text within can end."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`+", text))])
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
