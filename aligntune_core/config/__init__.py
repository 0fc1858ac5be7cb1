"""Settings: what there is (`settings`), other names for them (`aliases`), and how they are read (`load`)."""

from aligntune_core.config.fields import Float, NonNegative, PositiveFloat, PositiveInt, Share
from aligntune_core.config.load import Layer, build_config, check_effects, file_layer
from aligntune_core.config.settings import CONFIGS, CORE_SETTINGS, SftConfig, TrainingConfig, setting

__all__ = [
    "CONFIGS",
    "CORE_SETTINGS",
    "Float",
    "Layer",
    "NonNegative",
    "PositiveFloat",
    "PositiveInt",
    "SftConfig",
    "Share",
    "TrainingConfig",
    "build_config",
    "check_effects",
    "file_layer",
    "setting",
]
