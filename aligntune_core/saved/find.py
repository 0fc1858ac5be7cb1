"""What a name means after training: a run, a checkpoint of one, the model in it, or a model without a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aligntune_core.checkpoint_head import CheckpointHead, model_folder, read_head
from aligntune_core.config import TrainingConfig
from aligntune_core.config.settings import AdapterSettings, ModelSettings
from aligntune_core.data.source import close_to
from aligntune_core.errors import ConfigError
from aligntune_core.runs.checkpoints import damage, newest_good, step_of
from aligntune_core.runs.folder import MODEL, read_run

OPENED = frozenset(
    {
        *ModelSettings.model_fields,
        *AdapterSettings.model_fields,
        "system_prompt",
        "seed",
        "batch_size",
        "eval_batch_size",
        "max_seq_length",
    }
) - {"chat_template", "model_name", "task_type", "model_type", "trust_remote_code"}
"""The settings of a run that say how its model is loaded and asked. `run.json` comes with the model, so it never
consents to running code; who opens the model does."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved model.

    Attributes:
        model: what is loaded: a folder, or a hub name.
        head: what its files say it is.
        run_dir: the folder of the run that saved it, or None.
        run: that run's `run.json`; empty without a run.
    """

    model: str
    head: CheckpointHead
    run_dir: Path | None = None
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """Its local folder; None for a model on the hub."""
        path = Path(self.model).expanduser()
        return path if path.is_dir() else None

    @property
    def step(self) -> int | None:
        """The step of a checkpoint."""
        step = step_of(Path(self.model))
        return step if self.run and step >= 0 else None

    @property
    def name(self) -> str:
        """What it is called: the run's name, or its folder's or the hub's."""
        return str(self.run.get("run_id") or Path(self.model).expanduser().absolute().name)

    @property
    def backend(self) -> str | None:
        """The backend that trained it."""
        found = self.run.get("selection")
        return found.get("backend") if isinstance(found, Mapping) else None

    @property
    def plain_text(self) -> bool:
        """Whether its run's rows were plain text, so that it has no conversations."""
        shape = str(self.run.get("row_format") or "")
        return bool(shape) and not shape.endswith("messages")

    def settings(self) -> dict[str, Any]:
        """The settings of its run that say how it is loaded and asked; none of them makes foreign code run."""
        config = self.run.get("config")
        found = {k: v for k, v in config.items() if k in OPENED} if isinstance(config, Mapping) else {}
        if "/" in str(found.get("attn_implementation")):  # a kernel from the hub or a folder, which is code
            del found["attn_implementation"]
        return found


def find_saved(name: str, *, trust_remote_code: bool = False) -> Saved:
    """Find a model and look at its files; nothing is loaded.

    Args:
        name: a run folder, a checkpoint in it, a model folder, or a hub name.
        trust_remote_code: take a model that brings Python code; what its run was allowed says nothing here.

    Raises:
        ConfigError: there is none, the run has saved none yet, its files are broken, or it brings code.
    """
    path = Path(name).expanduser()
    if not path.exists() and len(path.parts) > 1 and path.parent.is_dir():  # like a hub's name, and meant as a folder
        remedy = close_to(name) or "give the folder of a run or of a model"
        raise ConfigError("this folder does not exist", remedy, field="model_name", value=name)
    run_dir = path.absolute().parent if step_of(path) >= 0 or path.name == MODEL else path
    run = read_run(run_dir) if path.is_dir() else None
    if run is not None:
        _check_usable(path, run_dir, name)
    model = model_folder(name)
    head = read_head(model, None, trust_remote_code=trust_remote_code)
    return Saved(model, head, run_dir if run is not None else None, run or {})


def _check_usable(path: Path, run_dir: Path, name: str) -> None:
    """Refuse a run without a model, with what there is instead, and a checkpoint that is damaged."""
    if step_of(path) >= 0:
        if problem := damage(path):
            raise ConfigError(problem, "give another checkpoint, or the run", field="model_name", value=name)
    elif path == run_dir and not (path / MODEL).is_dir():
        checkpoint, _ = newest_good(path)
        there = f"or give its checkpoint {checkpoint}" if checkpoint else "it has no checkpoint either"
        remedy = f"finish it: aligntune train --resume {name}; {there}"
        raise ConfigError("this run has saved no model yet", remedy, field="model_name", value=name)


def settings_of(saved: Saved, **changes: Any) -> TrainingConfig:
    """The settings with which it is loaded and asked; `changes` win, but for None.

    Raises:
        ConfigError: `run.json` was edited, and holds what no setting allows.
    """
    from aligntune_core.config import Layer, SftConfig, build_config

    settings: type[TrainingConfig] = SftConfig if saved.run.get("algorithm") == "sft" else TrainingConfig
    own = {name: value for name, value in saved.settings().items() if name in settings.model_fields}
    given = {name: value for name, value in changes.items() if value is not None}
    return build_config(settings, [Layer(own, "run.json"), Layer(given)])
