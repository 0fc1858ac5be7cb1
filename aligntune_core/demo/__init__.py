"""The demo's data set: questions and answers about fine-tuning, written for this project."""

from __future__ import annotations

import json
from importlib.resources import files

QUESTIONS = "questions.jsonl"
HELD_BACK = "held_back.jsonl"


def rows(name: str = QUESTIONS) -> list[dict[str, str]]:
    """The rows of one of the two files: instruction, input (empty) and output."""
    text = (files(__package__) / name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]
