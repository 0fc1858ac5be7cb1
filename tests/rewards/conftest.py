"""What the tests of rewards share: one way to call one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from aligntune_core.rewards import BoundReward
from aligntune_core.rewards.resolve import resolve

FIRST_ROW = 17
Score = Callable[..., list[float | None]]


@pytest.fixture
def score() -> Score:
    """Give `score(reward, completions, **columns)`: a batch from row 17 of the data on; each character is a token."""

    def call(
        reward: Any, completions: Sequence[Any] = ("a", "b", "c", "d"), *, timeout: float = 60.0, **columns: Any
    ) -> list[float | None]:
        bound = reward if isinstance(reward, BoundReward) else resolve([reward])[0]
        rows = {"aligntune_row": list(range(FIRST_ROW, FIRST_ROW + len(completions)))}
        return bound(
            [f"question {number}" for number in range(len(completions))],
            completions,
            columns=rows | columns,
            completion_ids=[[ord(char) for char in str(text)] for text in completions],
            timeout=timeout,
        )

    return call
