"""From a call to a ready trainer: every check (`checks`), then the rows; only then does the backend load a model."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from aligntune_core.algorithms import canonical
from aligntune_core.checkpoint_head import CheckpointHead, check_base, model_folders
from aligntune_core.checks import (
    check_adapter,
    check_objects,
    check_precision,
    check_required,
    check_task,
    checked_config,
    choose_again,
    config_for,
    head_of,
    layers_of,
    model_type_of,
    run_folder,
    selector_of,
)
from aligntune_core.config import Layer, TrainingConfig, check_effects
from aligntune_core.data.read import load_rows
from aligntune_core.environment import detect
from aligntune_core.errors import BackendUnavailableError, ConfigError
from aligntune_core.installed import default_registry
from aligntune_core.isolation import RemoteTrainer, Worker, check_travels
from aligntune_core.plan import Plan, origins_of, versions_of
from aligntune_core.plugins import Backend, BackendRegistry, load_extension
from aligntune_core.rewarding import check_reward_model, check_rollouts, fitted, resolve_rewards
from aligntune_core.rewards.bound import BoundReward
from aligntune_core.runs.folder import CACHES, STAGING, check_folder, leaving_no_trace
from aligntune_core.runs.log import RunLog
from aligntune_core.runs.resume import check_unchanged, find_resumption
from aligntune_core.selector import AUTO
from aligntune_core.trainer import Trainer
from aligntune_core.values import Availability, Isolation, TrainRequest

if TYPE_CHECKING:
    from aligntune_core.config.typed import RlSettings, SftSettings

log = logging.getLogger("aligntune")


def _quiet() -> None:
    """The libraries' telemetry stays off unless the user turned it on."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def make_plan(
    algorithm: object,
    backend: object,
    layers: list[Layer],
    *,
    registry: BackendRegistry,
    model: Any = None,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    chosen_early: Callable[[Backend, Isolation], object] = lambda backend, isolation: None,
) -> Plan:
    """Check everything that can be checked without a training library, and read the rows.

    Args:
        algorithm, backend: as the user named them.
        layers: the settings.
        registry: the installed backends.
        model, train_dataset, eval_dataset: open objects, instead of names.
        chosen_early: told of a backend that will train in a worker, before the rows are read.

    Raises:
        AlignTuneError: the first thing that is wrong; all bad settings at once.
    """
    environment = detect()
    name, selection, config = checked_config(algorithm, backend, layers, registry=registry, environment=environment)
    check_required(config, model, train_dataset)
    check_objects(
        config,
        model=model is not None,
        train_dataset=train_dataset is not None,
        eval_dataset=eval_dataset is not None,
    )
    check_precision(config, environment)
    run_dir = run_folder(config, name, model, environment)
    check_folder(run_dir, overwrite=config.overwrite, resume=bool(config.resume))
    resumption = find_resumption(config.resume, run_dir)
    head = head_of(config, model)
    model_type = model_type_of(config, head)
    checkpoint: dict[str, bool] = {"quantised": head.quantised, "adapter": head.base is not None}
    trackers = tuple(load_extension(name) for name in config.plugin_trackers)
    check_base(name, head, config.model_name)
    check_reward_model(config)
    rewards = resolve_rewards(config)
    place: dict[str, Any] = {
        "registry": registry, "environment": environment, "config": config.settled(**checkpoint),
        "refused": partial(_cannot_go_there, config, run_dir, model, rewards),
    }  # fmt: skip
    selection = choose_again(selection, name, config.task_type, model_type, **place)
    _quiet()
    isolation = isolation_of(registry.backends[selection.backend], config, run_dir)
    if isolation is not None:
        check_travels(model, rewards)
        if not resumption.finished:
            chosen_early(registry.backends[selection.backend], isolation)
    rows = load_rows(config, train_dataset, eval_dataset, head.names)
    task = config.task_type or rows.task
    check_task(config, task, model_type)
    selection = choose_again(selection, name, task, model_type, **place)
    log.log(logging.WARNING if selection.note else logging.INFO, "%s: %s", name, selection)
    _tell_kinds(config, head, task, model_type)
    chosen = registry.backends[selection.backend]
    config = config_for(name, chosen, layers).settled(**checkpoint)
    config = fitted(config, environment)
    config = config.decided(**model_folders(config))
    check_adapter(config, chosen, name)
    check_effects(config, has_eval=rows.eval is not None, has_adapter=head.base is not None)
    check_rollouts(config, rows, rewards, environment)
    plan = Plan(
        algorithm=name, task=task, model_type=model_type, config=config, selection=selection, environment=environment,
        rows=rows, run_dir=run_dir, resumption=resumption, model=model, versions=versions_of(chosen.distribution),
        plugins=registry.snapshot(), trackers=trackers, rewards=rewards,
        origin=origins_of(config, head.base),
    )  # fmt: skip
    if resumption.run is not None:
        check_unchanged(resumption.run, plan.record())
    return plan


def _tell_kinds(config: TrainingConfig, head: CheckpointHead, task: str, model_type: str) -> None:
    """Which task and which type of model it is, and who says so."""
    told = "read off the rows" if config.task_type is None else "as set"
    known = "read off the model" if config.model_name is None else "read off the checkpoint"
    kind = "as set" if config.model_type else known if head.model_type else "assumed"
    log.info("task %s, %s; model type %s, %s", task, told, model_type, kind)


def request_of(plan: Plan) -> TrainRequest:
    """What the backend is given of a plan."""
    return TrainRequest(
        algorithm=plan.algorithm,
        task=plan.task,
        model_type=plan.model_type,
        config=plan.config,
        environment=plan.environment,
        model=plan.model,
        train_rows=plan.rows.train,
        eval_rows=plan.rows.eval,
        row_format=plan.rows.shape,
        labels=plan.rows.labels,
        rewards=plan.rewards,
        work_dir=plan.run_dir.absolute() / STAGING,
    )


def isolation_of(backend: Backend, config: TrainingConfig, run_dir: Path) -> Isolation | None:
    """How the worker is to be that trains; None where this process does."""
    if config.isolation == "none":
        return None
    found = backend.isolation(run_dir.absolute() / CACHES)
    return found if found.own_process or config.isolation == "process" else None


def _cannot_go_there(
    config: TrainingConfig, run_dir: Path, model: Any, rewards: tuple[BoundReward, ...], backend: Backend
) -> Availability | None:
    """Why `auto` takes another backend: this one trains in a worker, and the run cannot go there; None where it can."""
    if config.isolation == "process" or isolation_of(backend, config, run_dir) is None:
        return None  # a worker that the user asks for is the same for every backend
    try:
        check_travels(model, rewards)
    except ConfigError as error:
        problem = error.problems[0]
        return Availability(False, f"{problem.field} {problem.problem}", problem.remedy)
    return None


class _Workers:
    """The workers that were started for a run: as soon as a backend was chosen, while rows are read."""

    def __init__(self) -> None:
        self._started: dict[str, Worker] = {}

    def start(self, backend: Backend, isolation: Isolation) -> Worker:
        """The backend's worker; `auto` may take another backend once it has seen the rows, and then another worker."""
        if backend.name not in self._started:
            self.close()
            self._started[backend.name] = Worker(backend.name, isolation)
        return self._started[backend.name]

    def close(self) -> None:
        for worker in self._started.values():
            worker.kill()
        self._started.clear()


def build(plan: Plan, registry: BackendRegistry, run_log: RunLog, workers: _Workers) -> Trainer:
    """A trainer with its model loaded; for a finished run, one that loads nothing.

    Raises:
        BackendUnavailableError: the chosen backend cannot run this very request here.
    """
    if plan.resumption.finished:
        return Trainer(plan, None, run_log)
    backend, request = registry.backends[plan.selection.backend], request_of(plan)
    verdict = backend.is_available(plan.environment, request)
    if not verdict.ok:
        asked = plan.selection.asked
        raise BackendUnavailableError(verdict.reason, verdict.remedy, field="backend", value=asked)
    isolation = isolation_of(backend, plan.config, plan.run_dir)
    with leaving_no_trace(plan.run_dir):
        if isolation is None:
            workers.close()
            return Trainer(plan, backend.build_trainer(request), run_log)
        check_travels(plan.model, plan.rewards)
        remote = RemoteTrainer(workers.start(backend, isolation), request, plan.run_dir.absolute() / CACHES)
        return Trainer(plan, backend.checked(remote), run_log)


@overload
def get_trainer(
    algorithm: Literal["sft"],
    backend: object = "auto",
    *,
    config: str | Path | Mapping[str, Any] | None = None,
    model: Any = None,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    **settings: Unpack[SftSettings],
) -> Trainer: ...


@overload
def get_trainer(
    algorithm: Literal["dpo", "ppo", "grpo", "gspo", "dapo", "dr_grpo", "reward"],
    backend: object = "auto",
    *,
    config: str | Path | Mapping[str, Any] | None = None,
    model: Any = None,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    **settings: Unpack[RlSettings],
) -> Trainer: ...


@overload
def get_trainer(
    algorithm: object,
    backend: object = "auto",
    *,
    config: str | Path | Mapping[str, Any] | None = None,
    model: Any = None,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    **settings: Any,  # a plugin's algorithm has settings of its own
) -> Trainer: ...


def get_trainer(
    algorithm: object,
    backend: object = "auto",
    *,
    config: str | Path | Mapping[str, Any] | None = None,
    model: Any = None,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    **settings: Any,
) -> Trainer:
    """A trainer that is ready to train.

    Args:
        algorithm: its name, in any spelling.
        backend: a backend's name in any case, a `BackendType`, or "auto".
        config: a YAML or JSON file, or a mapping, of settings.
        model: an open model, instead of `model_name`.
        train_dataset, eval_dataset: a `datasets.Dataset` or a list of mappings, instead of names.
        **settings: settings by name; they win over `config`.

    Raises:
        AlignTuneError: see `aligntune_core.errors`; everything is checked before a model is loaded.
    """
    run_log, workers = RunLog(), _Workers()
    with run_log.listening(), contextlib.ExitStack() as undone:
        undone.callback(workers.close)
        registry = default_registry()
        layers = layers_of(config, settings)
        plan = make_plan(
            selector_of(layers, "algorithm", algorithm, None),
            selector_of(layers, "backend", backend, AUTO),
            layers,
            registry=registry,
            model=model,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            chosen_early=workers.start,
        )
        trainer = build(plan, registry, run_log, workers)
        undone.pop_all()
        return trainer


def create_sft_trainer(
    *,
    backend: object = "auto",
    config: str | Path | Mapping[str, Any] | None = None,
    model: Any = None,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    **settings: Unpack[SftSettings],
) -> Trainer:
    """A supervised fine-tuning trainer; see `get_trainer`.

    Raises:
        ConfigError: `config` or a keyword asks for another algorithm.
    """
    asked = [layer.settings["algorithm"] for layer in layers_of(config, settings) if layer.settings.get("algorithm")]
    for algorithm in asked:
        if canonical(algorithm, default_registry().extra_algorithms) != "sft":
            raise ConfigError("is not supervised fine-tuning", "use get_trainer", field="algorithm", value=algorithm)
    settings.pop("algorithm", None)  # type: ignore[typeddict-item]
    return get_trainer(
        "sft",
        backend,
        config=config,
        model=model,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        **settings,
    )


def create_rl_trainer(
    *,
    algorithm: object,
    backend: object = "auto",
    config: str | Path | Mapping[str, Any] | None = None,
    model: Any = None,
    train_dataset: Any = None,
    eval_dataset: Any = None,
    **settings: Unpack[RlSettings],
) -> Trainer:
    """A trainer for a preference or reinforcement learning algorithm; see `get_trainer`.

    Raises:
        ConfigError: `algorithm` is sft.
    """
    name = canonical(algorithm, default_registry().extra_algorithms)
    if name == "sft":
        raise ConfigError("is not reinforcement learning", "use create_sft_trainer", field="algorithm", value=algorithm)
    chosen: Any = name
    return get_trainer(
        chosen,
        backend,
        config=config,
        model=model,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        **settings,
    )
