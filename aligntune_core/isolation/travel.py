"""What goes into a worker: names, paths, settings, rows as files, and rewards that can be found again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from aligntune_core.checks import config_class
from aligntune_core.config import TrainingConfig
from aligntune_core.data.library import open_rows
from aligntune_core.data.read import load_rows
from aligntune_core.data.stream import RowStream
from aligntune_core.environment import detect
from aligntune_core.errors import ConfigError, Problem
from aligntune_core.plugins import Backend
from aligntune_core.rewarding import resolve_rewards
from aligntune_core.rewards.bound import BoundReward
from aligntune_core.values import Labels, TrainRequest

HERE = "set isolation: none to train in this process, where the backend can"


def check_travels(model: Any, rewards: tuple[BoundReward, ...]) -> None:
    """Refuse what only this process has.

    Raises:
        ConfigError: one line for each.
    """
    found = []
    if model is not None:
        problem = "is open in this process, and training is in another"
        found.append(Problem.of("model", problem, f"give model_name, a folder or a hub name; or {HERE}"))
    for reward in rewards:
        if not reward.portable:
            problem = "is an object of this process, and training is in another"
            remedy = f"write module:function or FILE.py:name; or {HERE}"
            found.append(Problem.of("reward_functions", problem, remedy, value=reward.source))
    if found:
        raise ConfigError(found)


def packed(request: TrainRequest, folder: Path) -> dict[str, Any]:
    """The request as JSON can tell it; rows that are at hand are written into `folder`."""
    streams = isinstance(request.train_rows, RowStream)
    rows = {} if streams else {"train": request.train_rows}
    rows |= {} if request.eval_rows is None else {"eval": request.eval_rows}
    for name, part in rows.items():
        part.save_to_disk(str(folder / name))
    return {
        "algorithm": request.algorithm,
        "task": request.task,
        "model_type": request.model_type,
        "config": request.config.model_dump(mode="json"),
        "given": sorted(request.config.model_fields_set),
        "rows": {name: str(folder / name) for name in rows},
        "row_format": request.row_format,
        "labels": None if request.labels is None else asdict(request.labels),
        "work_dir": str(request.work_dir),
    }


def unpacked(told: dict[str, Any], backend: Backend) -> TrainRequest:
    """The request again, in the worker."""
    config = settings_again(config_class(told["algorithm"], backend), told["config"], told["given"])
    rows = {name: open_rows(path) for name, path in told["rows"].items()}
    if "train" not in rows:
        rows["train"] = load_rows(config).train  # a stream is read where it is trained
    labels = told["labels"]
    return TrainRequest(
        algorithm=told["algorithm"],
        task=told["task"],
        model_type=told["model_type"],
        config=config,
        environment=detect(),
        train_rows=rows["train"],
        eval_rows=rows.get("eval"),
        row_format=told["row_format"],
        labels=None if labels is None else Labels(labels["problem"], tuple(labels["names"])),
        rewards=resolve_rewards(config),
        work_dir=Path(told["work_dir"]),
    )


def settings_again(cls: type[TrainingConfig], values: dict[str, Any], given: list[str]) -> TrainingConfig:
    """Settings from their JSON: the same values, of which the same are the user's."""
    config = cls.model_validate({name: value for name, value in values.items() if name in given})
    whole = cls.model_validate(values)
    return config.decided(**{name: getattr(whole, name) for name in values})
