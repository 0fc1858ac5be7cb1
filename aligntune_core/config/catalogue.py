"""Every algorithm that core has settings for, by its canonical name. A class is made when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from aligntune_core.config.settings import TrainingConfig

HOMES = {
    "DapoConfig": "policies",
    "DpoConfig": "offline",
    "DrGrpoConfig": "policies",
    "GrpoConfig": "policies",
    "GspoConfig": "policies",
    "PpoConfig": "policies",
    "RewardModelConfig": "offline",
    "RolloutConfig": "rollouts",
    "SftConfig": "offline",
}
"""Class → the module of this package that it stands in."""
_CLASSES = {
    "sft": "SftConfig",
    "dpo": "DpoConfig",
    "ppo": "PpoConfig",
    "grpo": "GrpoConfig",
    "gspo": "GspoConfig",
    "dapo": "DapoConfig",
    "dr_grpo": "DrGrpoConfig",
    "reward": "RewardModelConfig",
}


def class_named(name: str) -> type[TrainingConfig]:
    """A class of `HOMES`, made when it is first asked for."""
    found: type[TrainingConfig] = getattr(import_module(f"aligntune_core.config.{HOMES[name]}"), name)
    return found


class _Catalogue(Mapping[str, type[TrainingConfig]]):
    """Algorithm → class. Making all of them would cost each command as much as reading its settings file."""

    def __getitem__(self, algorithm: str) -> type[TrainingConfig]:
        return class_named(_CLASSES[algorithm])

    def __contains__(self, algorithm: object) -> bool:
        return algorithm in _CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


CONFIGS: Mapping[str, type[TrainingConfig]] = _Catalogue()
