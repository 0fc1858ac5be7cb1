"""The rewards that have a name: ours, and those that plugins bring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from aligntune_core.algorithms import did_you_mean, fold, lookup
from aligntune_core.discovery import is_plain
from aligntune_core.errors import LONGEST_NAME, PluginContractError, kind_of, one_line
from aligntune_core.rewards.values import Reward

OURS = "aligntune"


class RewardRegistry(Mapping[str, Reward]):
    """Name → reward, frozen. `RewardRegistry.built_in()` has ours; `adding` gives a larger one."""

    def __init__(self, rewards: Mapping[str, Reward]) -> None:
        self._rewards = MappingProxyType(dict(rewards))

    @classmethod
    def built_in(cls) -> RewardRegistry:
        """Our own rewards."""
        from aligntune_core.rewards.builtin import BUILT_IN  # here, so that a run without rewards need not load them

        return cls({reward.name: _owned(reward, OURS) for reward in BUILT_IN})

    def __getitem__(self, name: str) -> Reward:
        return self._rewards[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rewards)

    def __len__(self) -> int:
        return len(self._rewards)

    def find(self, name: str) -> Reward | None:
        """The reward of this name, in any spelling: `Exact-Match` is `exact_match`."""
        found = lookup(name, self._rewards)
        return None if found is None else self._rewards[found]

    def choices(self, name: str) -> str:
        """The remedy for a name that no reward has."""
        return did_you_mean(name, tuple(self._rewards), "the rewards are")

    def adding(self, rewards: Iterable[Reward], origin: str) -> RewardRegistry:
        """This registry and what a plugin brings.

        Args:
            rewards: what its hook `provides_rewards` gave.
            origin: the plugin's distribution and version.

        Raises:
            PluginContractError: not a `Reward`, a name that is not plain, or one that is taken.
        """
        grown = dict(self._rewards)
        for reward in rewards:
            _check(reward, grown, origin)
            grown[reward.name] = _owned(reward, origin)
        return RewardRegistry(grown)


def _owned(reward: Reward, origin: str) -> Reward:
    return Reward(reward.name, reward.make, reward.summary, origin)


def _check(reward: object, taken: Mapping[str, Reward], origin: str) -> None:
    """Refuse what a plugin may not bring."""
    if not isinstance(reward, Reward):
        raise _broke(f"provides_rewards() gave {kind_of(reward)}, which is no Reward", origin)
    name = reward.name
    if not isinstance(name, str) or not is_plain(name):
        shown = one_line(str(name) if isinstance(name, str) else kind_of(name), LONGEST_NAME)
        limit = f"lower-case letters, digits and _, at most {LONGEST_NAME}"
        raise _broke(f"provides_rewards() gave the name '{shown}', and a name is {limit}", origin)
    if not callable(reward.make):
        raise _broke(f"the reward '{name}' has nothing that makes it: make is {kind_of(reward.make)}", origin)
    for other in taken.values():
        if fold(other.name) == fold(name):
            raise _broke(f"the reward '{name}' is there already, from {other.origin}", origin)


def _broke(problem: str, origin: str) -> PluginContractError:
    return PluginContractError(problem, "upgrade it or report it to its authors", field="plugin", value=origin)
