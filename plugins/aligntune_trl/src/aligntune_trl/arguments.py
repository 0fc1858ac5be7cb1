"""Our settings as TRL's arguments: every one explicit, because the libraries change their defaults, and read back."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter
from transformers import Trainer, get_scheduler

from aligntune_core import AlignTuneError, BackendUnavailableError, ConfigError, PluginContractError
from aligntune_core.algorithms import did_you_mean
from aligntune_core.config import CONFIGS, TrainingConfig
from aligntune_core.config.aliases import BY_ALIAS
from aligntune_core.errors import gist

OWNED = {
    "output_dir": "output_dir", "per_device_train_batch_size": "batch_size",
    "per_device_eval_batch_size": "eval_batch_size", "num_train_epochs": "num_epochs", "max_length": "max_seq_length",
    "lr_scheduler_type": "lr_scheduler", "optim": "optimizer", "bf16": "precision", "fp16": "precision",
    "save_strategy": "save_steps", "eval_strategy": "eval_steps", "logging_strategy": "logging_steps",
    "generation_batch_size": "steps_per_generation",
}  # fmt: skip
"""Library fields that a setting of ours decides; the other such fields have our name or an alias of it."""
SETTINGS = frozenset(name for cls in CONFIGS.values() for name in (*cls.model_fields, *cls.pinned))


def training_arguments(
    config: TrainingConfig, *, work_dir: Path, precision: str, gradient_checkpointing: bool, evaluates: bool
) -> dict[str, Any]:
    """The arguments that all of TRL's trainers share."""
    steps = config.max_steps
    return {
        "output_dir": str(work_dir),
        "seed": config.seed,
        "data_seed": config.seed,
        "num_train_epochs": config.num_epochs,
        "max_steps": -1 if steps is None else steps,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.eval_batch_size or config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "average_tokens_across_devices": True,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "warmup_steps": config.warmup_steps,
        "weight_decay": config.weight_decay,
        "optim": config.optimizer,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "max_grad_norm": config.max_grad_norm,
        "label_smoothing_factor": 0.0,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "dataloader_drop_last": False,
        "train_sampling_strategy": "random",
        "ddp_find_unused_parameters": False,
        "gradient_checkpointing": gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if gradient_checkpointing else None,
        "logging_strategy": "steps",
        "logging_steps": config.logging_steps,
        "logging_first_step": False,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": config.library_trackers or "none",
        "eval_strategy": ("steps" if config.eval_steps else "epoch") if evaluates else "no",
        "eval_steps": config.eval_steps if evaluates else None,
        "prediction_loss_only": True,
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "save_total_limit": None,
        "save_only_model": False,
        "load_best_model_at_end": False,
        "push_to_hub": False,
        "remove_unused_columns": True,
        "neftune_noise_alpha": None,
        "auto_find_batch_size": False,
    }


def with_options(
    arguments: Mapping[str, Any],
    options: Mapping[str, Any],
    config_class: type,
    pinned: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """The arguments and the user's `backend_options`, which may name any other field of the installed version.

    Raises:
        ConfigError: no such field, or one that the algorithm or a setting of ours decides.
    """
    fields = {f.name for f in dataclasses.fields(config_class) if f.init}
    for name, value in options.items():
        if name in pinned:
            remedy = "leave it out, or train another algorithm"
            text = f"'{name}' is fixed to '{pinned[name]}' by the algorithm"
            raise ConfigError(text, remedy, field="backend_options", value=value)
        ours = OWNED.get(name) or (name if name in SETTINGS else BY_ALIAS.get(name))
        if ours:
            raise ConfigError(f"'{name}' is decided by {ours}", f"set {ours}", field="backend_options", value=value)
        if name.startswith(("hub_", "push_to_hub")):
            raise ConfigError(f"'{name}' is not passed on", "use Trainer.push_to_hub", field="backend_options")
        if name not in fields:
            remedy = did_you_mean(name, fields, f"see the fields of {config_class.__name__}")
            raise ConfigError(f"TRL has no field '{name}'", remedy, field="backend_options", value=value)
    typed = _typed(options, config_class)
    return {name: value for name, value in {**arguments, **typed}.items() if name in fields}


def _typed(options: Mapping[str, Any], config_class: type) -> dict[str, Any]:
    """The options as the types that the library declares, which it does not check itself.

    Raises:
        ConfigError: a value is of another type.
    """
    hints = get_type_hints(config_class)
    typed = {}
    for name, value in options.items():
        try:
            typed[name] = TypeAdapter(hints[name]).validate_python(value)
            if isinstance(typed[name], float) and math.isnan(typed[name]):
                raise ValueError("is no number")
        except ValueError as error:  # pydantic's own is one
            kind = getattr(hints[name], "__name__", "") or str(hints[name])
            text = f"TRL's '{name}' cannot have this value"
            raise ConfigError(text, f"give it as {kind}", field="backend_options", value=value) from error
    return typed


def make_arguments(config_class: type, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Construct TRL's config.

    Raises:
        ConfigError: it refuses a value.
        BackendUnavailableError: a package that an option needs is not installed.
    """
    with refusals_told("backend_options" if options else "config"):
        return config_class(**arguments)


@contextlib.contextmanager
def refusals_told(field: str, value: Any = None) -> Iterator[None]:
    """Tell what the library refuses as an error of the setting that it comes from.

    Args:
        field: the setting; empty: none can be at fault, so an error is ours, and stays as it is.
        value: the setting's value, where the library's message does not show it.

    Raises:
        ConfigError: it refuses a value.
        BackendUnavailableError: a package that the value needs is not installed.
    """
    shown = {} if value is None else {"value": value}
    try:
        yield
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        if not field or isinstance(error, AlignTuneError):
            raise
        problem = f"TRL refuses it: {gist(error)}"
        if isinstance(error, ImportError):
            remedy = "install what is named, or leave out that value"
            raise BackendUnavailableError(problem, remedy, field=field, **shown) from error
        raise ConfigError(problem, "change or leave out that value", field=field, **shown) from error


def check_optimiser(arguments: Any) -> None:
    """Make the optimizer and the schedule once, for a weight of no use: the library would fail only in its first step.

    Raises:
        ConfigError: they cannot be made so.
    """
    field = "optimizer"
    try:
        kind, values = Trainer.get_optimizer_cls_and_kwargs(arguments)
        optimizer = kind([torch.nn.Parameter(torch.zeros(1))], **values)
        field = "lr_scheduler"
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=1,
            num_training_steps=10,
            scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
        )
    except (ImportError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        value = _plain(arguments.optim if field == "optimizer" else arguments.lr_scheduler_type)
        library = "optim_args" if field == "optimizer" else "lr_scheduler_kwargs"
        remedy = f"choose another, or give what it needs in backend_options: {library} and the like"
        raise ConfigError(f"it cannot be made: {gist(error)}", remedy, field=field, value=value) from error


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


NORMALISED = {"report_to", "gradient_checkpointing_kwargs", "eval_steps"}
"""Fields whose form the library changes without changing what they mean."""


def check_read_back(wanted: Mapping[str, Any], arguments: Any) -> None:
    """Compare what the library holds after construction with what it was given.

    Raises:
        PluginContractError: a value was changed on the way.
    """
    for name, value in wanted.items():
        found = _plain(getattr(arguments, name))
        if name not in NORMALISED and found != _plain(value):
            setting = OWNED.get(name, name)
            problem = f"the library changed {name} to {found!r}"
            remedy = f"set {setting}: {found}; else report it, with the versions that 'aligntune diagnose' prints"
            raise PluginContractError(problem, remedy, field=setting, value=value)


def resolved_arguments(arguments: Any) -> dict[str, Any]:
    """The library's arguments as they are now, as plain values; tokens are not among them."""
    found = {f.name: _plain(getattr(arguments, f.name, None)) for f in dataclasses.fields(arguments)}
    return {name: value for name, value in found.items() if "token" not in name or name.endswith("eos_token")}
