"""AlignTune: fine-tune and align language models through backends that are plugins."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aligntune_core.errors import (
        AlignTuneError,
        BackendUnavailableError,
        ConfigError,
        DataError,
        DivergedError,
        NoBackendError,
        PluginContractError,
        PluginLoadError,
        RewardError,
        RunInterrupted,
        StorageError,
        UnknownAlgorithmError,
        UnknownBackendError,
        UnsupportedAlgorithmError,
        WorkerDiedError,
    )
    from aligntune_core.factory import (
        create_rl_trainer,
        create_sft_trainer,
        get_trainer,
    )
    from aligntune_core.installed import get_backend_status, list_backends, support_matrix
    from aligntune_core.ours import BackendType
    from aligntune_core.trainer import Trainer
    from aligntune_core.values import TrainResult

_ERRORS = "aligntune_core.errors"
_FACTORY = "aligntune_core.factory"
_INSTALLED = "aligntune_core.installed"
_HOME = {
    "AlignTuneError": _ERRORS,
    "BackendType": "aligntune_core.ours",
    "BackendUnavailableError": _ERRORS,
    "ConfigError": _ERRORS,
    "DataError": _ERRORS,
    "DivergedError": _ERRORS,
    "NoBackendError": _ERRORS,
    "PluginContractError": _ERRORS,
    "PluginLoadError": _ERRORS,
    "RewardError": _ERRORS,
    "RunInterrupted": _ERRORS,
    "StorageError": _ERRORS,
    "TrainResult": "aligntune_core.values",
    "Trainer": "aligntune_core.trainer",
    "UnknownAlgorithmError": _ERRORS,
    "UnknownBackendError": _ERRORS,
    "UnsupportedAlgorithmError": _ERRORS,
    "WorkerDiedError": _ERRORS,
    "create_rl_trainer": _FACTORY,
    "create_sft_trainer": _FACTORY,
    "get_backend_status": _INSTALLED,
    "get_trainer": _FACTORY,
    "list_backends": _INSTALLED,
    "support_matrix": _INSTALLED,
}

__all__ = [
    "AlignTuneError",
    "BackendType",
    "BackendUnavailableError",
    "ConfigError",
    "DataError",
    "DivergedError",
    "NoBackendError",
    "PluginContractError",
    "PluginLoadError",
    "RewardError",
    "RunInterrupted",
    "StorageError",
    "TrainResult",
    "Trainer",
    "UnknownAlgorithmError",
    "UnknownBackendError",
    "UnsupportedAlgorithmError",
    "WorkerDiedError",
    "create_rl_trainer",
    "create_sft_trainer",
    "get_backend_status",
    "get_trainer",
    "list_backends",
    "support_matrix",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("aligntune")
    if name not in _HOME:
        raise AttributeError(f"module 'aligntune' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
