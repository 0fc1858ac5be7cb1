"""What is checked before a training library is imported: the settings, and the files that they name.

`train` and `validate` share these; the order is: algorithm, backend, the pair, availability, settings, files.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aligntune_core.algorithms import lookup
from aligntune_core.checkpoint_head import CheckpointHead, check_base, kind_of_class, read_head
from aligntune_core.config import (
    CONFIGS,
    CORE_SETTINGS,
    Layer,
    TrainingConfig,
    build_config,
    file_layer,
)
from aligntune_core.config.settings import REQUIRED
from aligntune_core.data.formats import CLASSIFY_TEXT
from aligntune_core.data.heads import check_files
from aligntune_core.data.source import find_source
from aligntune_core.environment import Environment, detect
from aligntune_core.errors import AlignTuneError, ConfigError, Problem, UnsupportedAlgorithmError
from aligntune_core.installed import choose, default_registry
from aligntune_core.matrix import SupportMatrix
from aligntune_core.plugins import Backend, BackendRegistry
from aligntune_core.runs.folder import check_folder, default_folder, read_run
from aligntune_core.runs.resume import run_folder_of
from aligntune_core.selector import AUTO, Selection
from aligntune_core.values import MODEL_TYPES, TASKS, Availability, TrainRequest

log = logging.getLogger("aligntune")


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


def config_for(algorithm: str, backend: Backend, layers: list[Layer]) -> TrainingConfig:
    """The validated settings of an algorithm, as this backend honours them.

    Raises:
        ConfigError: every bad field, one line each.
        PluginContractError: the plugin's own settings tried to end the process.
    """
    cls = config_class(algorithm, backend)
    claimed = backend.algorithms[algorithm].settings
    if unknown := sorted(claimed - set(cls.model_fields)):
        log.warning("the backend '%s' claims settings that there are not: %s", backend.name, ", ".join(unknown)[:200])
    theirs = contextlib.nullcontext() if algorithm in CONFIGS else backend.blamed("config")
    with theirs:  # its validators are the plugin's code
        config = build_config(cls, layers, honoured=(CORE_SETTINGS | claimed) & set(cls.model_fields))
    if config.library_trackers and "report_to" not in claimed:
        remedy = "leave it out, or name a tracker that is a plugin"
        problem = f"the backend '{backend.name}' reports to none of {', '.join(config.library_trackers)}"
        raise ConfigError(problem, remedy, field="report_to", value=config.library_trackers)
    return config


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


def selector_of(layers: list[Layer], name: str, given: Any, default: Any) -> Any:
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
    task, model_type = _asked(layers, "task_type", TASKS), _asked(layers, "model_type", MODEL_TYPES)
    name, selection = choose(registry, environment, algorithm, backend, task, model_type)
    return name, selection, config_for(name, registry.backends[selection.backend], layers)


def _asked(layers: list[Layer], setting: str, choices: tuple[str, ...]) -> str | None:
    """What the layers say of the task or the model type; a wrong value is refused later, with the other settings."""
    values = [layer.settings[setting] for layer in layers if setting in layer.settings]
    return lookup(values[-1], choices) if values else None


def check_required(config: TrainingConfig, model: Any, train_dataset: Any) -> None:
    missing = [
        name
        for name, present in (
            ("model_name", config.model_name or model is not None),
            ("dataset_name", config.dataset_name or train_dataset is not None),
            ("reward_functions", _is_rewarded(config)),
        )
        if not present
    ]
    if missing:
        raise ConfigError([Problem.of(name, "is missing", REQUIRED[name]) for name in missing])


def _is_rewarded(config: TrainingConfig) -> bool:
    """Whether an algorithm that learns from rewards has one; the punishment of long answers alone is none."""
    sources = ("reward_functions", "reward_model_name")
    return config.rows != "prompts" or any(getattr(config, name, True) for name in sources)


def _rollout_checks(config: TrainingConfig, environment: Environment) -> list[Callable[[], object]]:
    """What is checked beside all else for algorithms that learn from rewards; for others nothing is imported."""
    if config.rows != "prompts":
        return []
    from aligntune_core import rewarding

    return [
        lambda: rewarding.fitted(config, environment),
        lambda: rewarding.check_rewards(config),
        lambda: rewarding.check_reward_model(config),
    ]


def check_objects(config: TrainingConfig, *, model: bool, train_dataset: bool, eval_dataset: bool) -> None:
    """Refuse settings that say how to load what was passed as an open object.

    Raises:
        ConfigError: one line for each.
    """
    decided = {
        "model": (model, ("load_in_4bit", "load_in_8bit", "attn_implementation")),
        "train_dataset": (train_dataset, ("dataset_name", "dataset_weights", "split", "streaming")),
        "eval_dataset": (eval_dataset, ("eval_dataset_name", "eval_fraction")),
    }
    found = [
        Problem.of(name, f"has no effect beside {what}", f"leave out {name} or {what}", value=getattr(config, name))
        for what, (passed, names) in decided.items()
        for name in names
        if passed and getattr(config, name, None)
    ]
    if found:
        raise ConfigError(found)


def check_precision(config: TrainingConfig, environment: Environment) -> None:
    if config.precision == "fp16" and not environment.gpus:
        remedy = "set precision: auto, fp32 or bf16"
        raise ConfigError("needs a GPU, and there is none here", remedy, field="precision", value="fp16")


def check_adapter(config: TrainingConfig, backend: Backend, algorithm: str) -> None:
    """Refuse a checkpoint of which only an adapter can be trained, where the backend trains none.

    Args:
        config: settled settings.
        backend: the chosen one.
        algorithm: its canonical name.

    Raises:
        ConfigError: `use_peft` was decided by the checkpoint, and the backend does not claim it.
    """
    if config.use_peft and "use_peft" not in backend.algorithms[algorithm].settings:
        problem = f"it is quantised or an adapter, and the backend '{backend.name}' trains all weights"
        raise ConfigError(problem, "give a full model", field="model_name", value=config.model_name)


def run_folder(config: TrainingConfig, algorithm: str, model: Any, environment: Environment) -> Path:
    if config.output_dir:
        return Path(config.output_dir).expanduser()
    if (folder := run_folder_of(config.resume)) is not None:
        return folder
    if config.resume is True:
        remedy = "set output_dir to its folder, or resume to its path"
        raise ConfigError("it is not said which run", remedy, field="resume", value=True)
    if environment.world_size > 1:
        remedy = "set output_dir, so that all processes use one"
        raise ConfigError("is missing under a launcher of several processes", remedy, field="output_dir")
    return default_folder(algorithm, config.model_name or type(model).__name__)


def head_of(config: TrainingConfig, model: Any) -> CheckpointHead:
    if model is None:
        return read_head(str(config.model_name), config.revision, trust_remote_code=config.trust_remote_code)
    quantised = bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))
    encodes = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
    kind = kind_of_class(type(model).__name__, encodes=encodes)
    return CheckpointHead(kind, quantised)


def model_type_of(config: TrainingConfig, head: CheckpointHead) -> str:
    """What kind of model it is: the checkpoint says it, `model_type` where that does not, else a causal one.

    Raises:
        ConfigError: the two say different things.
    """
    if config.model_type and head.model_type and config.model_type != head.model_type:
        problem = f"the checkpoint is another kind of model, {head.model_type}"
        raise ConfigError(problem, "leave it out", field="model_type", value=config.model_type)
    return config.model_type or head.model_type or "causal_lm"


def _refuse_pair(chosen: Backend, algorithm: str, task: str | None, model_type: str, matrix: SupportMatrix) -> None:
    """Refuse a (task, model type) that the chosen backend does not train."""
    support = matrix.support(chosen.name, algorithm, task, model_type)
    if support.level != "no":
        return
    cells = chosen.algorithms[algorithm].cells.items()
    kinds = sorted({kind for (t, kind), s in cells if task in (None, t) and s.level != "no"})
    able = [b for b in matrix.trains(algorithm, task, model_type) if b != chosen.name]
    fits = f"it trains {', '.join(kinds)} for that task" if kinds else "see 'aligntune matrix'"
    remedy = f'use backend="{able[0]}"' if able else fits
    purpose = f" for {task}" if task else ""
    problem = f"the backend '{chosen.name}' does not train a {model_type} model{purpose} ({support.note})"
    raise UnsupportedAlgorithmError(problem, remedy, field="model_type", value=model_type)


def choose_again(
    first: Selection,
    algorithm: str,
    task: str | None,
    model_type: str,
    *,
    registry: BackendRegistry,
    environment: Environment,
    config: TrainingConfig | None = None,
    refused: Callable[[Backend], Availability | None] = lambda backend: None,
) -> Selection:
    """The selection, now that the rows and the checkpoint were looked at: auto may take another, a name stays.

    Args:
        first: the selection before.
        algorithm, task, model_type: canonical; None for a task that is not known yet.
        registry, environment: what is installed, and where.
        config: settled settings, where training is about to begin: then each backend judges the run too.
        refused: why `auto` is to pass over a backend.

    Raises:
        UnsupportedAlgorithmError: the named backend, or with auto every one, does not train this.
    """
    matrix = SupportMatrix({b.name: b.algorithms for b in registry}, {})
    if first.asked != AUTO or not matrix.trains(algorithm, task, model_type):
        _refuse_pair(registry.backends[first.backend], algorithm, task, model_type, matrix)
    request = None
    if config is not None:
        what: dict[str, Any] = {"algorithm": algorithm, "task": task or "", "model_type": model_type}
        request = TrainRequest(**what, config=config, environment=environment)
    return choose(registry, environment, algorithm, first.asked, task, model_type, request, refused)[1]


def check_task(config: TrainingConfig, task: str, model_type: str) -> None:
    """Refuse to guess what is meant where a causal model meets texts with a label: it can learn either.

    Raises:
        ConfigError: `task_type` is to say it.
    """
    if config.task_type is None and task == CLASSIFY_TEXT and model_type == "causal_lm":
        problem = "the rows have text and label, and this model can learn to write the texts or to tell the labels"
        raise ConfigError(problem, f"set {CLASSIFY_TEXT} or text_generation", field="task_type")


def check_files_of(path: Path) -> tuple[dict[str, Any], list[AlignTuneError]]:
    """What `validate` says of a settings file: the whole config, and what is wrong with the files it names.

    Raises:
        AlignTuneError: algorithm, backend or settings are wrong; all bad settings at once.
    """
    environment, layers = detect(), [file_layer(path)]
    algorithm, backend = selector_of(layers, "algorithm", None, "sft"), selector_of(layers, "backend", None, AUTO)
    name, selection, config = checked_config(
        algorithm, backend, layers, registry=default_registry(), environment=environment
    )
    checks: list[Callable[[], object]] = [
        lambda: check_required(config, None, None),
        lambda: check_precision(config, environment),
        lambda: check_folder(
            run_folder(config, name, None, environment), overwrite=config.overwrite, resume=bool(config.resume)
        ),
    ]
    checks += _rollout_checks(config, environment)
    if config.model_name:
        checks.append(lambda: _check_kind(selection, name, config, environment))
    checks += [partial(_check_source, name, "dataset_name") for name in config.dataset_names]
    if config.eval_dataset_name:
        checks.append(partial(_check_source, config.eval_dataset_name, "eval_dataset_name"))
    errors = []
    for check in checks:
        try:
            check()
        except AlignTuneError as error:
            errors.append(error)
    return config.model_dump(mode="json"), errors


def _check_kind(first: Selection, algorithm: str, config: TrainingConfig, environment: Environment) -> None:
    head, registry = head_of(config, None), default_registry()
    model_type = model_type_of(config, head)
    choose_again(first, algorithm, config.task_type, model_type, registry=registry, environment=environment)
    check_base(algorithm, head, config.model_name)


def _check_source(name: str, field: str) -> None:
    check_files(find_source(name, field), field)
