"""Rewards: what scores an answer. Named ones, the user's own functions, and how they are called without harm.

`resolve.resolve` turns the settings into `BoundReward`s; a plugin brings `Reward`s. A function is called with TRL's
batch signature or one row at a time, sync or async, in a thread with a time limit, and what it gives is checked. What
a model wrote is never evaluated in this process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aligntune_core.rewards.bound import BoundReward
    from aligntune_core.rewards.registry import RewardRegistry
    from aligntune_core.rewards.values import ROW, Reward, text_of

_HOME = {"BoundReward": "bound", "ROW": "values", "Reward": "values", "RewardRegistry": "registry", "text_of": "values"}
__all__ = ["ROW", "BoundReward", "Reward", "RewardRegistry", "text_of"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: only the values are needed at every start."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
