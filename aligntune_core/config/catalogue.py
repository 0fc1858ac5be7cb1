"""Every algorithm that core has settings for, by its canonical name."""

from __future__ import annotations

from aligntune_core.config.offline import DpoConfig, RewardModelConfig, SftConfig
from aligntune_core.config.policies import DapoConfig, DrGrpoConfig, GrpoConfig, GspoConfig, PpoConfig
from aligntune_core.config.settings import TrainingConfig

CONFIGS: dict[str, type[TrainingConfig]] = {
    cls.algorithm: cls
    for cls in (
        SftConfig, DpoConfig, PpoConfig, GrpoConfig, GspoConfig, DapoConfig, DrGrpoConfig, RewardModelConfig
    )
}  # fmt: skip
