"""A reward that needs nothing: how many different characters an answer has."""

from __future__ import annotations


def variety(completion: str) -> float:
    return len(set(completion)) / 10
