"""How a check fails: with the promise that broke and what to do, and without a traceback into the suite."""

from __future__ import annotations

from typing import NoReturn

import pytest


def broken(promise: str, remedy: str) -> NoReturn:
    """Fail.

    Args:
        promise: what should hold, and what is there instead.
        remedy: what the author of the plugin is to do.
    """
    raise pytest.fail.Exception(f"{promise}\n    → {remedy}", pytrace=False) from None


def check(holds: object, promise: str, remedy: str) -> None:
    """Fail unless something holds; see `broken`."""
    if not holds:
        broken(promise, remedy)


def listed(things: list[str], most: int = 5) -> str:
    """The first few of many findings, a line each."""
    more = [f"and {len(things) - most} more"] if len(things) > most else []
    return "".join(f"\n    {thing}" for thing in [*things[:most], *more])
