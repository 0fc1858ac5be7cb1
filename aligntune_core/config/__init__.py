"""Settings: what all algorithms share (`settings`), what each adds (`offline`, `rollouts`, `policies`), other names for
them (`aliases`), and how they are read (`load`)."""

from typing import TYPE_CHECKING, Any

from aligntune_core.config.catalogue import CONFIGS, HOMES, class_named
from aligntune_core.config.fields import Float, NonNegative, PositiveFloat, PositiveInt, Share
from aligntune_core.config.load import Layer, build_config, check_effects, file_layer
from aligntune_core.config.settings import CORE_SETTINGS, TrainingConfig, setting

if TYPE_CHECKING:
    from aligntune_core.config.offline import DpoConfig, RewardModelConfig, SftConfig
    from aligntune_core.config.policies import DapoConfig, DrGrpoConfig, GrpoConfig, GspoConfig, PpoConfig
    from aligntune_core.config.rollouts import RolloutConfig


def __getattr__(name: str) -> Any:
    """An algorithm's class, made when it is first asked for."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return class_named(name)


__all__ = [
    "CONFIGS",
    "CORE_SETTINGS",
    "DapoConfig",
    "DpoConfig",
    "DrGrpoConfig",
    "Float",
    "GrpoConfig",
    "GspoConfig",
    "Layer",
    "NonNegative",
    "PositiveFloat",
    "PositiveInt",
    "PpoConfig",
    "RewardModelConfig",
    "RolloutConfig",
    "SftConfig",
    "Share",
    "TrainingConfig",
    "build_config",
    "check_effects",
    "file_layer",
    "setting",
]
