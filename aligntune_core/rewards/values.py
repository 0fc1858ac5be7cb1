"""What a reward is to those who write one: `Reward` for plugins, and the text of a completion for everybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aligntune_core.errors import kind_of

ROW = "aligntune_row"
"""The column with the number of a row in the data; errors show it, and no reward ever sees it."""

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward that can be asked for by name; what the hook `provides_rewards` gives.

    Attributes:
        name: lower-case letters, digits and _; what `reward_functions` says.
        make: called once a run with the options of the settings as keywords; gives the function that scores. Its
            signature says which options there are. It may raise ValueError with a plain sentence for a bad one.
        summary: one sentence for lists of rewards; unset: the first line of `make`'s docstring.
        origin: whose it is; the registry writes it.

    Example:
        def polite(*, word: str = "please"):
            def reward(completion):
                return float(word in text_of(completion))

            return reward

        Reward("polite", make=polite)
    """

    name: str
    make: Callable[..., Function]
    summary: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        if not self.summary:
            first = (getattr(self.make, "__doc__", None) or "").strip().partition("\n")[0]
            object.__setattr__(self, "summary", first)


class AtRow(Exception):  # noqa: N818 - it says where, and its cause what
    """Carries the position in the batch of what went wrong; `problem` where there is no cause."""

    def __init__(self, index: int, problem: str = "") -> None:
        super().__init__(problem)
        self.index, self.problem = index, problem


def _content(message: Any) -> str:
    content = message.get("content")
    if content is None:  # a call of a tool alone
        return ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))


def text_of(completion: Any) -> str:
    """The text of a completion: itself, or the contents of its assistant messages, joined by line breaks.

    Raises:
        TypeError: it is neither text nor a list of messages.
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, list) and all(isinstance(message, Mapping) for message in completion):
        return "\n".join(_content(m) for m in completion if m.get("role", "assistant") == "assistant")
    raise TypeError(f"a completion is {kind_of(completion)}, neither text nor a list of messages")
