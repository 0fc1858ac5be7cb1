"""Rows with a preference between two answers.

columns                      given to a backend as
prompt, chosen, rejected     {"prompt", "chosen", "rejected"}: three texts, or three lists of messages
chosen, rejected             the same; what both begin with is the prompt
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from aligntune_core.data.parts import messages_of, text_of, with_system

COLUMNS = ("prompt", "chosen", "rejected")


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many leading items are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _answers(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A pair of conversations; without a prompt of its own, it is what both begin with."""
    chosen, rejected = messages_of(row["chosen"], "chosen"), messages_of(row["rejected"], "rejected")
    if "prompt" in row:
        prompt = messages_of(row["prompt"], "prompt")
    else:
        shared = min(_shared(chosen, rejected), len(chosen) - 1, len(rejected) - 1)  # an answer stays in each
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    for column, answer in (("chosen", chosen), ("rejected", rejected)):
        if answer[-1]["role"] != "assistant":
            raise ValueError(f"column '{column}': its last message is of the {answer[-1]['role']}, not the assistant")
    if not prompt:
        raise ValueError("the two answers begin with no message in common: there is no prompt")
    return {"prompt": with_system(prompt, system_prompt), "chosen": chosen, "rejected": rejected}


def preference(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format preference.

    Raises:
        ValueError: a column is missing, or its kind differs from the others'.
    """
    if isinstance(row["chosen"], list):
        return _answers(row, system_prompt)
    chosen, rejected = text_of(row, "chosen"), text_of(row, "rejected")
    if "prompt" in row:
        return {"prompt": text_of(row, "prompt"), "chosen": chosen, "rejected": rejected}
    shared = _shared(chosen, rejected)
    if shared < max(len(chosen), len(rejected)):  # to the last space before they part: no word is cut in two
        shared = max(chosen.rfind(mark, 0, shared) + 1 for mark in (" ", "\n"))
    if not shared:
        raise ValueError("the two answers begin with no word in common, and there is no column 'prompt'")
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def learnt(row: Mapping[str, Any]) -> str:
    """The chosen answer of a shaped row; empty where it is equal to the rejected one, for then it trains nothing."""
    chosen = row["chosen"]
    if chosen == row["rejected"]:
        return ""
    return chosen if isinstance(chosen, str) else "".join(message["content"] for message in chosen)
