"""Settings: what there is (`settings`), other names for them (`aliases`), and how they are read (`load`)."""

from aligntune_core.config.load import Layer, build_config, check_effects, file_layer
from aligntune_core.config.settings import CONFIGS, CORE_SETTINGS, SftConfig, TrainingConfig

__all__ = [
    "CONFIGS",
    "CORE_SETTINGS",
    "Layer",
    "SftConfig",
    "TrainingConfig",
    "build_config",
    "check_effects",
    "file_layer",
]
