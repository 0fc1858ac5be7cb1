"""All that is decided before a model is loaded: one frozen value that the trainer and `run.json` are made from."""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from aligntune_core.config import TrainingConfig
from aligntune_core.data.read import Rows
from aligntune_core.data.source import find_source
from aligntune_core.environment import Environment
from aligntune_core.plugins import Extension
from aligntune_core.rewards.bound import BoundReward
from aligntune_core.runs.resume import Resumption
from aligntune_core.selector import Selection
from aligntune_core.values import RunInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run that is about to happen."""

    algorithm: str
    task: str
    model_type: str
    config: TrainingConfig
    selection: Selection
    environment: Environment
    rows: Rows
    run_dir: Path
    resumption: Resumption
    versions: Mapping[str, str]
    plugins: tuple[Mapping[str, str], ...]
    origin: Mapping[str, Any]
    trackers: tuple[Extension, ...] = ()
    rewards: tuple[BoundReward, ...] = ()
    model: Any = None

    @property
    def info(self) -> RunInfo:
        """What callbacks are told of the run."""
        return RunInfo(
            run_dir=self.run_dir,
            algorithm=self.algorithm,
            task=self.task,
            model_type=self.model_type,
            backend=self.selection.backend,
            config=self.config,
        )

    def record(self) -> dict[str, Any]:
        """The fields of `run.json` that are known now."""
        return {
            "run_id": self.run_dir.name,
            "algorithm": self.algorithm,
            "task": self.task,
            "model_type": self.model_type,
            "row_format": self.rows.shape,
            "config": self.config.model_dump(mode="json"),
            "given": self.config.given,
            "selection": asdict(self.selection),
            "versions": dict(self.versions),
            "plugins": [dict(p) for p in self.plugins],
            "data": self.rows.summary(),
            "origin": dict(self.origin),
            "seed": self.config.seed,
            "world_size": self.environment.world_size,
        }


def origins_of(config: TrainingConfig, base: str | None) -> dict[str, Any]:
    """Which names of the settings are those of the hub, and which are local: a model card tells the first as they are.

    Args:
        config: settled settings, whose model and rows were found.
        base: the model under the adapter that is trained on.

    Returns:
        `hub` or `local` for each setting that names a model or data, for several data sets a list; and for `base`.
    """
    models = {"model_name": config.model_name, "reward_model_name": getattr(config, "reward_model_name", None)}
    found: dict[str, Any] = {
        name: "local" if Path(value).expanduser().exists() else "hub"
        for name, value in {**models, "base": base}.items()
        if value
    }
    kinds = ["hub" if find_source(name).kind == "hub" else "local" for name in config.dataset_names]
    if kinds:
        found["dataset_name"] = kinds[0] if isinstance(config.dataset_name, str) else kinds
    if config.eval_dataset_name:
        found["eval_dataset_name"] = "hub" if find_source(config.eval_dataset_name).kind == "hub" else "local"
    return found


def versions_of(distribution: str) -> dict[str, str]:
    """Python's, ours, a plugin's, and those of what it requires directly; or what a plugin requires that it calls."""
    found = {"python": platform.python_version()}
    required = _required(distribution)
    plugins = [name for name in required if "aligntune" in _required(name)]
    for name in sorted({"aligntune", distribution}.union(required, *map(_required, plugins))):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _required(distribution: str) -> list[str]:
    """What a distribution requires without an extra; nothing for one that is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        required = metadata.requires(distribution) or []
        return [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in required if "extra ==" not in text]
    return []
