"""The core of AlignTune, public to authors of plugins: the hooks, the values that cross the seam, and the errors."""

from aligntune_core.algorithms import Algorithm
from aligntune_core.environment import Device, Environment
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
from aligntune_core.hookspecs import hookimpl
from aligntune_core.rewards.values import Reward, text_of
from aligntune_core.runs.storage import storage_error
from aligntune_core.values import (
    AlgorithmSupport,
    Availability,
    BackendTrainer,
    Callback,
    Preview,
    RowPreview,
    RowTokens,
    RunEvents,
    RunInfo,
    Support,
    TrainRequest,
    TrainResult,
)

__all__ = [
    "Algorithm",
    "AlgorithmSupport",
    "AlignTuneError",
    "Availability",
    "BackendTrainer",
    "BackendUnavailableError",
    "Callback",
    "ConfigError",
    "DataError",
    "Device",
    "DivergedError",
    "Environment",
    "NoBackendError",
    "PluginContractError",
    "PluginLoadError",
    "Preview",
    "Reward",
    "RewardError",
    "RowPreview",
    "RowTokens",
    "RunEvents",
    "RunInfo",
    "RunInterrupted",
    "StorageError",
    "Support",
    "TrainRequest",
    "TrainResult",
    "UnknownAlgorithmError",
    "UnknownBackendError",
    "UnsupportedAlgorithmError",
    "hookimpl",
    "storage_error",
    "text_of",
]
