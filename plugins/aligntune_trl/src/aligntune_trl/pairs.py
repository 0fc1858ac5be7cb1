"""From shaped preference rows to token ids. A pair is cut at the end of each answer, never in the prompt."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligntune_core import DataError
from aligntune_core.errors import numbered
from aligntune_trl.tokenise import IGNORED, Tokeniser

log = logging.getLogger("aligntune")


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference as the model sees it: token ids of the prompt and of either answer, which follows it."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def input_ids(self) -> list[int]:
        """The prompt with the chosen answer."""
        return self.prompt_ids + self.chosen_ids

    @property
    def labels(self) -> list[int]:
        """Of `input_ids`: the chosen answer is trained."""
        return [IGNORED] * len(self.prompt_ids) + self.chosen_ids

    @property
    def length(self) -> int:
        """Tokens of the longer of the two."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))

    @property
    def whole(self) -> bool:
        """Whether something is left of both answers."""
        return bool(self.chosen_ids and self.rejected_ids)

    def cut(self, length: int) -> Pair:
        left = max(length - len(self.prompt_ids), 0)
        return Pair(self.prompt_ids, self.chosen_ids[:left], self.rejected_ids[:left])


class PairTokeniser:
    """Tokenises preference rows: conversations in the chat template, texts joined and ended by end-of-sequence."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self._tokeniser = tokenizer, Tokeniser(tokenizer)

    def _texts(self, row: Mapping[str, Any]) -> tuple[str, str, str]:
        """The prompt, and the prompt with either answer."""
        if isinstance(row["prompt"], str):
            prompt = row["prompt"]
            chosen, rejected = (prompt + self._tokeniser.ended(row[c]) for c in ("chosen", "rejected"))
            return prompt, chosen, rejected
        writer, tools = self._tokeniser.writer, row.get("tools")
        prompt = writer.write(row["prompt"], ask=True, tools=tools)
        chosen, rejected = (writer.finished([*row["prompt"], *row[c]], tools=tools) for c in ("chosen", "rejected"))
        if not (chosen.startswith(prompt) and rejected.startswith(prompt)):
            problem = "the chat template writes the prompt differently once an answer follows"
            raise DataError(problem, "set a chat_template that does not", field="chat_template")
        return prompt, chosen, rejected

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Pair]:
        """The rows as tokens, uncut."""
        texts = [self._texts(row) for row in rows]
        chat = not isinstance(rows[0]["prompt"], str)
        chosen, rejected = (
            zip(*self._tokeniser.encode([answers[c] for answers in texts], chat=chat), strict=True) for c in (1, 2)
        )
        return [
            self._pair(len(prompt), one, other)
            for (prompt, _, _), one, other in zip(texts, chosen, rejected, strict=True)
        ]

    def _pair(self, prompt: int, chosen: tuple[Any, Any], rejected: tuple[Any, Any]) -> Pair:
        """A token of which a part lies in an answer belongs to the answer; both share one prompt."""
        length = min(_start(offsets, prompt) for _, offsets in (chosen, rejected))
        (ids, _), (others, _) = chosen, rejected
        while ids[:length] != others[:length]:
            length -= 1
        return Pair(ids[:length], ids[length:], others[length:])


def _start(offsets: Sequence[tuple[int, int]], prompt: int) -> int:
    """The first token that reaches beyond the prompt; special tokens around the text have no extent."""
    return next((i for i, (_, end) in enumerate(offsets) if end > prompt), len(offsets))


def tokenise_pairs(rows: Any, tokeniser: PairTokeniser, longest: int, field: str, *, cut: bool) -> Any:
    """A `Dataset` of prompt_ids, chosen_ids and rejected_ids; what is cut or left out is counted and told.

    Args:
        rows: of the shape preference.
        tokeniser: of the model.
        longest: tokens of the prompt with an answer.
        field: the setting that named the rows.
        cut: cut longer pairs at the end, and leave those out of whose answers nothing is left; else leave out all
            longer ones, for a score is read off at an answer's end.

    Raises:
        DataError: no pair is left.
    """
    from datasets import Dataset

    pairs = tokeniser(list(rows))
    long = [number for number, pair in enumerate(pairs, 1) if pair.length > longest]
    kept = dict(enumerate((pair.cut(longest) if cut else pair for pair in pairs), 1))
    kept = {number: pair for number, pair in kept.items() if pair.whole and pair.length <= longest}
    left_out = [number for number in range(1, len(pairs) + 1) if number not in kept]
    only_cut = [number for number in long if number in kept]
    if not kept:
        problem = f"no pair has room for its answers within {longest} tokens"
        raise DataError(problem, "raise max_seq_length", field="max_seq_length", value=longest)
    if only_cut:
        text = "%s: %d of %d pairs are cut at %d tokens: %s"
        log.info(text, field, len(only_cut), len(pairs), longest, numbered(only_cut))
    if left_out:
        text = "%s: %d of %d pairs are left out, their answers do not fit into %d tokens: %s"
        log.warning(text, field, len(left_out), len(pairs), longest, numbered(left_out))
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return Dataset.from_dict({name: [getattr(pair, name) for pair in kept.values()] for name in names})


def sequences(pairs: Any) -> Iterator[list[int]]:
    """The token ids of each prompt with either answer, as the model reads them."""
    for row in pairs:
        yield row["prompt_ids"] + row["chosen_ids"]
        yield row["prompt_ids"] + row["rejected_ids"]
