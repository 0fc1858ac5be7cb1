"""All that is decided before a model is loaded: one frozen value that the trainer and `run.json` are made from."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from aligntune_core.config import TrainingConfig
from aligntune_core.data.read import Rows
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
            "origin": self._origin(),
            "seed": self.config.seed,
            "world_size": self.environment.world_size,
        }

    def _origin(self) -> dict[str, str]:
        """Which names of the settings are those of the hub, and which are paths here: a model card tells the first."""
        named = {name: getattr(self.config, name) for name in ("model_name", "dataset_name", "eval_dataset_name")}
        several = {name: (value,) if isinstance(value, str) else value for name, value in named.items() if value}
        return {name: "local" if any(map(_is_here, values)) else "hub" for name, values in several.items()}


def _is_here(name: str) -> bool:
    return Path(name).expanduser().exists() or "*" in name


def versions_of(distribution: str) -> dict[str, str]:
    """Python's, ours, a plugin's, and those of what the plugin requires directly."""
    found = {"python": platform.python_version()}
    try:
        required = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        required = []
    names = [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in required if "extra ==" not in text]
    for name in sorted({"aligntune", distribution, *names}):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
