"""The names of `aligntune`, under the path that the user documents import them from."""

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
)
from aligntune_core.factory import create_rl_trainer, create_sft_trainer, get_trainer
from aligntune_core.installed import get_backend_status, list_backends, support_matrix
from aligntune_core.ours import BackendType
from aligntune_core.trainer import Trainer
from aligntune_core.values import TrainResult

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
    "create_rl_trainer",
    "create_sft_trainer",
    "get_backend_status",
    "get_trainer",
    "list_backends",
    "support_matrix",
]
