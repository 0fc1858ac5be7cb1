"""Timing two commands in alternating pairs, so that a machine whose speed drifts does not decide the result."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from importlib import metadata


def alternate(first: Callable[[], float], second: Callable[[], float], pairs: int) -> tuple[list[float], list[float]]:
    """Run A B, B A, A B, … after one uncounted pair; the numbers of each."""
    first(), second()
    found: tuple[list[float], list[float]] = ([], [])
    for pair in range(pairs):
        order = ((0, first), (1, second)) if pair % 2 == 0 else ((1, second), (0, first))
        for place, measure in order:
            found[place].append(measure())
    return found


def ratio(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Least, median and greatest ratio first / second over the pairs."""
    ratios = sorted(a / b for a, b in zip(first, second, strict=True))
    return ratios[0], statistics.median(ratios), ratios[-1]


def machine(*packages: str) -> str:
    """What a figure must name: processor count, Python and versions."""
    import os

    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    return f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}, {versions}"
