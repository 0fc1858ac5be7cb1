"""From a call to a ready trainer. Checks come in this order: algorithm, backend, the pair, availability, settings,
the output folder, the checkpoint, the rows; only then does the backend load a model."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from aligntune_core.algorithms import ALGORITHMS, canonical
from aligntune_core.checkpoint_head import CheckpointHead, read_head
from aligntune_core.config import CONFIGS, Layer, TrainingConfig, build_config, check_effects, file_layer
from aligntune_core.data import find_source, load_rows
from aligntune_core.data.heads import check_files
from aligntune_core.environment import Environment, detect
from aligntune_core.errors import AlignTuneError, ConfigError, Problem, UnsupportedAlgorithmError
from aligntune_core.matrix import SupportMatrix
from aligntune_core.ours import EXTRAS, install_remedy
from aligntune_core.plan import Plan, versions_of
from aligntune_core.plugins import Backend, BackendRegistry, load_registry
from aligntune_core.runs.folder import STAGING, check_folder, default_folder, prune, read_run
from aligntune_core.runs.log import RunLog
from aligntune_core.runs.resume import check_unchanged, find_resumption, run_folder_of
from aligntune_core.selector import AUTO, Selection, backend_name, select
from aligntune_core.trainer import Trainer
from aligntune_core.values import Availability, TrainRequest

log = logging.getLogger("aligntune")


@cache
def default_registry() -> BackendRegistry:
    """The installed backends, loaded once a process."""
    return load_registry()


def build_matrix(registry: BackendRegistry, environment: Environment) -> SupportMatrix:
    """What the installed backends train, with each one's verdict on this machine."""
    return SupportMatrix(
        {b.name: b.algorithms for b in registry}, {b.name: b.is_available(environment) for b in registry}
    )


def list_backends() -> list[str]:
    """Names of the installed backends, sorted."""
    return sorted(default_registry().backends)


def get_backend_status() -> dict[str, dict[str, Any]]:
    """Name → available, reason, remedy, version, distribution; our own backends are listed even when absent."""
    registry, environment = default_registry(), detect()
    status: dict[str, dict[str, Any]] = {}
    for backend in registry:
        verdict = backend.is_available(environment)
        status[backend.name] = _status(verdict, backend.version, backend.distribution)
    for failure in registry.failures.values():
        verdict = Availability(False, f"it cannot be loaded: {failure.reason}", "see 'aligntune plugins'")
        status[failure.name] = _status(verdict, failure.version, failure.distribution)
    for name in EXTRAS:
        absent = _status(Availability(False, "not installed", install_remedy(name)), None, f"aligntune-{name}")
        status.setdefault(name, absent)
    return dict(sorted(status.items()))


def _status(verdict: Availability, version: str | None, distribution: str) -> dict[str, Any]:
    return {
        "available": verdict.ok,
        "reason": verdict.reason,
        "remedy": verdict.remedy,
        "version": version,
        "distribution": distribution,
    }


def support_matrix() -> SupportMatrix:
    """The support matrix of what is installed now."""
    return build_matrix(default_registry(), detect())


def choose(
    registry: BackendRegistry, environment: Environment, algorithm: object, backend: object, task: str | None = None
) -> tuple[str, Selection]:
    """The canonical algorithm and the selected backend.

    Raises:
        UnknownAlgorithmError, UnknownBackendError, UnsupportedAlgorithmError, BackendUnavailableError, NoBackendError,
        PluginLoadError: see `aligntune_core.errors`.
    """
    name = canonical(algorithm, registry.extra_algorithms)
    wanted = backend_name(backend, registry.backends, registry.failures)
    if wanted in registry.failures:
        registry.failures[wanted].raise_()
    matrix = SupportMatrix({b.name: b.algorithms for b in registry}, {})

    def verdict(candidate: str) -> Availability:
        return registry.backends[candidate].is_available(environment)

    return name, select(matrix, verdict, backend=wanted, algorithm=name, task=task)


def config_class(algorithm: str, backend: Backend) -> type[TrainingConfig]:
    """The class of an algorithm's settings: core's, or the plugin's own.

    Raises:
        UnsupportedAlgorithmError: neither has one.
    """
    found = CONFIGS.get(algorithm) or backend.algorithms[algorithm].config
    if found is None:
        remedy = f"report it to the authors of {backend.distribution}"
        raise UnsupportedAlgorithmError("no settings are defined for it", remedy, field="algorithm", value=algorithm)
    return found


def layers_of(config: str | Path | Mapping[str, Any] | None, settings: Mapping[str, Any]) -> list[Layer]:
    """The layers of settings, weakest first: those of the run that `resume` names, the file, the keywords."""
    file = file_layer(config)
    resume = settings.get("resume", file.settings.get("resume"))
    folder = run_folder_of(resume) if str(resume).lower() not in ("true", "false", "none") else None
    run = read_run(folder) if folder else None
    if folder is None or run is None or config is not None:
        return [file, Layer(dict(settings))]
    earlier = {**run.get("given", {}), "output_dir": str(folder), "overwrite": None}
    selectors = {"algorithm": run.get("algorithm"), "backend": run.get("selection", {}).get("backend")}
    return [Layer({**earlier, **selectors}, str(folder)), Layer(dict(settings))]


def _selector(layers: list[Layer], name: str, given: Any, default: Any) -> Any:
    """`algorithm` or `backend`: the keyword, else the file's, else the default."""
    if given is not None and given != default:
        return given
    from_file = [layer.settings[name] for layer in layers if layer.settings.get(name) is not None]
    return from_file[-1] if from_file else (given if given is not None else default)


def checked_config(
    algorithm: object, backend: object, layers: list[Layer], *, registry: BackendRegistry, environment: Environment
) -> tuple[str, Selection, TrainingConfig]:
    """Everything up to the settings: the part that `validate` and `train` share.

    Raises:
        AlignTuneError: of the kind that `choose` and `build_config` raise.
    """
    task = next((layer.settings["task_type"] for layer in reversed(layers) if "task_type" in layer.settings), None)
    known_task = task if isinstance(task, str) else None
    name, selection = choose(registry, environment, algorithm, backend)
    chosen = registry.backends[selection.backend]
    cls = config_class(name, chosen)
    config = build_config(cls, layers, honoured=chosen.algorithms[name].settings & set(cls.model_fields))
    if known_task is not None:
        _, selection = choose(registry, environment, algorithm, backend, config.task_type)
    return name, selection, config


def _check_required(config: TrainingConfig, model: Any, train_dataset: Any) -> None:
    missing = [
        (name, remedy)
        for name, present, remedy in (
            ("model_name", config.model_name or model is not None, "give a local folder or a hub name"),
            ("dataset_name", config.dataset_name or train_dataset is not None, "give a file, a folder or a hub name"),
        )
        if not present
    ]
    if missing:
        raise ConfigError([Problem.of(name, "is missing", remedy) for name, remedy in missing])


def _check_precision(config: TrainingConfig, environment: Environment) -> None:
    if config.precision == "fp16" and not environment.gpus:
        remedy = "set precision: auto, fp32 or bf16"
        raise ConfigError("needs a GPU, and there is none here", remedy, field="precision", value="fp16")


def _run_dir(config: TrainingConfig, algorithm: str, model: Any, environment: Environment) -> Path:
    if config.output_dir:
        return Path(config.output_dir).expanduser()
    if (folder := run_folder_of(config.resume)) is not None:
        return folder
    if environment.world_size > 1:
        remedy = "set output_dir, so that all processes use one"
        raise ConfigError("is missing under a launcher of several processes", remedy, field="output_dir")
    return default_folder(algorithm, config.model_name or type(model).__name__)


def _head_of(config: TrainingConfig, model: Any) -> CheckpointHead:
    if model is None:
        return read_head(str(config.model_name), config.revision, trust_remote_code=config.trust_remote_code)
    quantised = bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))
    return CheckpointHead(None, quantised)


def _refuse_pair(chosen: Backend, algorithm: str, task: str, model_type: str, matrix: SupportMatrix) -> None:
    """Refuse a (task, model type) that the chosen backend does not train, now that both are known."""
    support = matrix.support(chosen.name, algorithm, task, model_type)
    if support.level != "no":
        if support.level == "limited":
            log.warning("%s, %s: %s", task, model_type, support.note)
        return
    kinds = sorted({k for (t, k), s in chosen.algorithms[algorithm].cells.items() if t == task and s.level != "no"})
    able = [b for b in matrix.trains(algorithm, task, model_type) if b != chosen.name]
    fits = f"it trains {', '.join(kinds)} for that task" if kinds else "see 'aligntune matrix'"
    remedy = f'use backend="{able[0]}"' if able else fits
    problem = f"the backend '{chosen.name}' does not train a {model_type} model for {task} ({support.note})"
    raise UnsupportedAlgorithmError(problem, remedy, field="model_type", value=model_type)


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
) -> Plan:
    """Check everything that can be checked without a training library, and read the rows.

    Raises:
        AlignTuneError: the first thing that is wrong; all bad settings at once.
    """
    environment = detect()
    name, selection, config = checked_config(algorithm, backend, layers, registry=registry, environment=environment)
    log.info("%s: %s", name, selection)
    _check_required(config, model, train_dataset)
    _check_precision(config, environment)
    run_dir = _run_dir(config, name, model, environment)
    check_folder(run_dir, overwrite=config.overwrite, resume=bool(config.resume))
    resumption = find_resumption(config.resume, run_dir)
    head = _head_of(config, model)
    config = config.settled(quantised=head.quantised)
    chosen = registry.backends[selection.backend]
    matrix = SupportMatrix({b.name: b.algorithms for b in registry}, {})
    model_type = config.model_type or head.model_type or "causal_lm"
    if config.task_type:
        _refuse_pair(chosen, name, config.task_type, model_type, matrix)
    _quiet()
    rows = load_rows(config, train_dataset, eval_dataset)
    check_effects(config, has_eval=rows.eval is not None)
    task = config.task_type or rows.task
    _refuse_pair(chosen, name, task, model_type, matrix)
    plan = Plan(
        algorithm=name, task=task, model_type=model_type, config=config, selection=selection, environment=environment,
        rows=rows, run_dir=run_dir, resumption=resumption, model=model, versions=versions_of(chosen.distribution),
        plugins=tuple({"name": b.name, "distribution": b.distribution, "version": b.version} for b in registry),
    )  # fmt: skip
    if resumption.run is not None and not resumption.finished:
        check_unchanged(resumption.run, plan.record())
    return plan


def check_files_of(path: Path) -> tuple[dict[str, Any], list[AlignTuneError]]:
    """What `validate` says of a settings file: the whole config, and what is wrong with the files it names.

    Raises:
        AlignTuneError: algorithm, backend or settings are wrong; all bad settings at once.
    """
    environment, layers = detect(), [file_layer(path)]
    algorithm, backend = _selector(layers, "algorithm", None, "sft"), _selector(layers, "backend", None, AUTO)
    name, _, config = checked_config(algorithm, backend, layers, registry=default_registry(), environment=environment)
    checks: list[Callable[[], object]] = [
        lambda: _check_required(config, None, None),
        lambda: _check_precision(config, environment),
        lambda: check_folder(
            _run_dir(config, name, None, environment), overwrite=config.overwrite, resume=bool(config.resume)
        ),
    ]
    if config.model_name:
        checks.append(lambda: _head_of(config, None))
    for field in ("dataset_name", "eval_dataset_name"):
        if value := getattr(config, field):
            checks.append(lambda value=value, field=field: check_files(find_source(value, field), field))
    errors = []
    for check in checks:
        try:
            check()
        except AlignTuneError as error:
            errors.append(error)
    return config.model_dump(mode="json"), errors


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
        work_dir=plan.run_dir / STAGING,
    )


def build(plan: Plan, registry: BackendRegistry, run_log: RunLog) -> Trainer:
    """A trainer with its model loaded; for a finished run, one that loads nothing."""
    if plan.resumption.finished:
        return Trainer(plan, None, run_log)
    try:
        return Trainer(plan, registry.backends[plan.selection.backend].build_trainer(request_of(plan)), run_log)
    finally:
        prune(plan.run_dir)


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
    run_log = RunLog()
    with run_log.listening():
        registry = default_registry()
        layers = layers_of(config, settings)
        plan = make_plan(
            _selector(layers, "algorithm", algorithm, None),
            _selector(layers, "backend", backend, AUTO),
            layers,
            registry=registry,
            model=model,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
        )
        return build(plan, registry, run_log)


def create_sft_trainer(
    *, backend: object = "auto", config: str | Path | Mapping[str, Any] | None = None, **settings: Any
) -> Trainer:
    """A supervised fine-tuning trainer; see `get_trainer`."""
    return get_trainer("sft", backend, config=config, **settings)


def create_rl_trainer(
    *, algorithm: object, backend: object = "auto", config: str | Path | Mapping[str, Any] | None = None, **settings: Any
) -> Trainer:
    """A trainer for a preference or reinforcement learning algorithm; see `get_trainer`.

    Raises:
        ConfigError: `algorithm` is sft.
    """
    name = canonical(algorithm, default_registry().extra_algorithms)
    if name in ALGORITHMS and name == "sft":
        raise ConfigError("is not reinforcement learning", "use create_sft_trainer", field="algorithm", value=algorithm)
    return get_trainer(name, backend, config=config, **settings)
