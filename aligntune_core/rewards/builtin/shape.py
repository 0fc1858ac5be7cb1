"""Rewards that look at the form of a completion alone: its length, and how much it repeats itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from aligntune_core.rewards.values import Function, text_of


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}")


def length(*, least: int = 0, most: int | None = None, unit: Literal["tokens", "characters"] = "tokens") -> Function:
    """1 where the completion's length is in a range, falling in a line to 0 outside.

    It is 0 for an empty completion (unless `least` is 0) and from twice `most` on.

    Args:
        least, most: the range, both ends within; at least one of them is needed.
        unit: what is counted: the tokens that were generated, or the characters of the text.
    """
    _whole("least", least, 0)
    if most is not None:
        _whole("most", most, max(least, 1))
    if most is None and not least:
        raise ValueError("give least, most or both")
    if unit not in ("tokens", "characters"):
        raise ValueError("unit is 'tokens' or 'characters'")

    def score(size: int) -> float:
        if size < least:
            return size / least
        return 1.0 if most is None or size <= most else max(0.0, 2 - size / most)

    def by_tokens(completions: Sequence[Any], completion_ids: Sequence[Sequence[int]]) -> list[float]:
        return [score(len(ids)) for ids in completion_ids]

    def by_characters(completions: Sequence[Any]) -> list[float]:
        return [score(len(text_of(completion))) for completion in completions]

    return by_tokens if unit == "tokens" else by_characters


def repetition(*, ngram_size: int = 3) -> Function:
    """From 0 where no n-gram of tokens occurs twice, towards -1 the more they do: unique / all n-grams, less 1.

    Source: Yeo et al. 2025, Demystifying Long Chain-of-Thought Reasoning, arXiv:2502.03373, appendix C.2, in the form
    that TRL has. A completion shorter than an n-gram scores 0.

    Args:
        ngram_size: tokens in an n-gram.
    """
    _whole("ngram_size", ngram_size, 1)

    def share(ids: Sequence[int]) -> float:
        count = len(ids) - ngram_size + 1
        unique = {tuple(ids[start : start + ngram_size]) for start in range(count)}
        return len(unique) / count - 1 if count > 0 else 0.0

    def reward(completions: Sequence[Any], completion_ids: Sequence[Sequence[int]]) -> list[float]:
        return [share(ids) for ids in completion_ids]

    return reward


def soft_overlong(*, max_completion_length: int, cache: int) -> Function:
    """0 up to `max_completion_length - cache` tokens, falling in a line to -1 at `max_completion_length`.

    Source: Yu et al. 2025, DAPO, arXiv:2503.14476, equation 13.

    Args:
        max_completion_length: L_max, in tokens.
        cache: L_cache, in tokens: how long the slope is; 0: none.
    """
    _whole("max_completion_length", max_completion_length, 1)
    _whole("cache", cache, 0)
    if cache > max_completion_length:
        raise ValueError("cache must not be above max_completion_length")
    free = max_completion_length - cache

    def penalty(size: int) -> float:
        if size <= free:
            return 0.0
        return (free - size) / cache if size <= max_completion_length else -1.0

    def reward(completions: Sequence[Any], completion_ids: Sequence[Sequence[int]]) -> list[float]:
        return [penalty(len(ids)) for ids in completion_ids]

    return reward
