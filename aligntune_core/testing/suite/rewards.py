"""Rewards that a tiny model learns within a few steps; the checks of algorithms that learn from rewards use them."""

from __future__ import annotations

from typing import Any

from aligntune_core.rewards.values import text_of


def _share(text: str, wanted: str) -> float:
    return sum(character in wanted for character in text) / max(len(text), 1)


def vowels(completion: Any) -> float:
    """The share of vowels, from 0 to 1."""
    return _share(text_of(completion), "aeiou")


def digits(completion: Any) -> float:
    """The share of digits, from 0 to 1."""
    return _share(text_of(completion), "0123456789")
