"""What the fast suite leaves to the heavy session: further values of a promise that it holds for others."""

from __future__ import annotations

from typing import Any

import pytest


def heavy(*values: Any, **named: Any) -> Any:
    """A set of parameters, as `pytest.param` makes it, that only the heavy session tries."""
    return pytest.param(*values, marks=pytest.mark.heavy, **named)
