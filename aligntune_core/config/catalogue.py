"""Every algorithm that core has settings for, by its canonical name. A class is made when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from aligntune_core.config.settings import TrainingConfig

_HOMES = {
    "sft": ("offline", "SftConfig"),
    "dpo": ("offline", "DpoConfig"),
    "ppo": ("policies", "PpoConfig"),
    "grpo": ("policies", "GrpoConfig"),
    "gspo": ("policies", "GspoConfig"),
    "dapo": ("policies", "DapoConfig"),
    "dr_grpo": ("policies", "DrGrpoConfig"),
    "reward": ("offline", "RewardModelConfig"),
}


class _Catalogue(Mapping[str, type[TrainingConfig]]):
    """Algorithm → class. Making all of them would cost each command as much as reading its settings file."""

    def __getitem__(self, algorithm: str) -> type[TrainingConfig]:
        module, name = _HOMES[algorithm]
        found: type[TrainingConfig] = getattr(import_module(f"aligntune_core.config.{module}"), name)
        return found

    def __contains__(self, algorithm: object) -> bool:
        return algorithm in _HOMES

    def __iter__(self) -> Iterator[str]:
        return iter(_HOMES)

    def __len__(self) -> int:
        return len(_HOMES)


CONFIGS: Mapping[str, type[TrainingConfig]] = _Catalogue()
