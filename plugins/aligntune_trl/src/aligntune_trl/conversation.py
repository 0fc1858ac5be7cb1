"""Conversations as text, by the chat template, and where in it the answers stand."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from aligntune_core import ConfigError, DataError
from aligntune_core.errors import gist
from aligntune_trl.marks import Span, places_of, unused, with_marks
from aligntune_trl.tokenizer import special_tokens, turn_ends

log = logging.getLogger("aligntune")

Message = Mapping[str, Any]
LAST = 4
"""Characters at the end of an answer without which none of it is there."""
ASKED = 40
"""Characters before an answer in which its first words may stand: some templates begin the reasoning themselves."""


def _filled(value: Any) -> Any:
    """A value without what is null in it: a table fills up with nulls what a message or a tool does not have."""
    if isinstance(value, Mapping):
        return {key: _filled(each) for key, each in value.items() if each is not None}
    return [_filled(each) for each in value] if isinstance(value, list) else value


def _parsed(value: Any) -> Any:
    """JSON text as what it says.

    Raises:
        DataError: it is no JSON.
    """
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        problem = f"tools or tool_calls of a row are no JSON: {value[:40]!r}"
        raise DataError(problem, "mend the rows", field="dataset_name") from error


def _message(given: Message) -> dict[str, Any]:
    message = {"content": "", **_filled(given)}
    if calls := message.pop("tool_calls", None):
        message["tool_calls"] = _parsed(calls)
    return message


class Writer:
    """Writes conversations with the chat template of one tokenizer.

    A template is a program: where it puts an answer is not read off its text, but seen from what it writes.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._eos: str = tokenizer.eos_token or ""
        self._special = tuple(special_tokens(tokenizer))
        self._told: set[str] = set()

    def tell(self, text: str) -> None:
        """Warn of something once."""
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text)

    def write(self, messages: Sequence[Message], *, ask: bool = False, tools: Any = None) -> str:
        """A conversation as text.

        Args:
            messages: role and content, and whatever else the template may read.
            ask: end it where the assistant's answer begins.
            tools: JSON schemas of the tools that the assistant may call, or their JSON text.

        Raises:
            ConfigError: the template fails.
            DataError: it leaves out what the assistant calls.
        """
        return self._write(*self._ready(messages, tools), ask=ask)

    def _ready(self, messages: Sequence[Message], tools: Any) -> tuple[list[dict[str, Any]], Any]:
        """What is given to the template."""
        ready, schemas = [_message(message) for message in messages], _filled(_parsed(tools)) or None
        self._check_place(ready, schemas)
        return ready, schemas

    def _write(self, messages: Sequence[Message], tools: Any, *, ask: bool = False) -> str:
        kept = {"tools": tools} if tools else {}
        try:
            return str(
                self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=ask, **kept)
            )
        except Exception as error:  # a template is a program, and may raise anything
            roles = ", ".join(dict.fromkeys(m["role"] for m in messages))
            problem = f"it fails on a conversation of {roles}: {gist(error)}"
            remedy = "mend the template, or change the rows"
            raise ConfigError(problem, remedy, field="chat_template", value=self._template) from error

    @cached_property
    def _ends(self) -> list[str]:
        """What the template writes after an answer, and the end-of-sequence token."""
        ends = turn_ends(self.tokenizer)
        named = [mark for mark, number in special_tokens(self.tokenizer).items() if number in ends]
        return [*named, *([self._eos] if self._eos else [])]

    @property
    def _template(self) -> Any:
        return self.tokenizer.chat_template

    def _check_place(self, messages: Sequence[Message], tools: Any) -> None:
        """Look whether the template reads what only some templates do."""
        if tools and "tools" not in str(self._template):
            self.tell("the chat template has no place for tools: the model does not see them")
        if any("tool_calls" in m for m in messages) and "tool_calls" not in str(self._template):
            problem, remedy = "the chat template leaves out what the assistant calls", "set one that writes tool_calls"
            raise DataError(problem, remedy, field="chat_template", value=self._template)

    def ended(self, text: str) -> str:
        """A whole conversation whose last answer has an end that the model can learn."""
        if self._mark_after(text.rstrip()) or not self._eos:
            return text
        self.tell(f"the chat template writes no token that ends an answer: {self._eos} is put after the last one")
        return text + self._eos

    def _mark_after(self, text: str) -> bool:
        """Whether a text ends with a token that ends something."""
        return text.endswith(self._special) or bool(self._eos and text.endswith(self._eos))

    def finished(self, messages: Sequence[Message], *, tools: Any = None) -> str:
        """A conversation that ends with an answer, as it is trained."""
        text = self.write(messages, tools=tools)
        return self.ended(text) if messages[-1]["role"] == "assistant" else text

    def answers(self, row: Mapping[str, Any]) -> tuple[str, list[Span]]:
        """The text of a row, and the spans of the answers in it, each with the end of its turn.

        Raises:
            DataError: an answer cannot be told from the rest.
        """
        messages, tools = self._ready(row["messages"], row.get("tools"))
        text = self._write(messages, tools)
        turns = [n for n in range(row["context"], len(messages)) if messages[n]["role"] == "assistant"]
        places = {turn: self._before_and_after(messages, turn, text, tools) for turn in turns}
        unclear = [turn for turn, span in places.items() if span is None]
        found = {turn: span for turn, span in places.items() if span is not None}
        found |= dict(zip(unclear, self._marked(messages, unclear, text, tools) if unclear else (), strict=True))
        self._check_words({turn: text[max(begin - ASKED, 0) : end] for turn, (begin, end) in found.items()}, messages)
        whole = self.ended(text) if turns and turns[-1] == len(messages) - 1 else text
        spans = [self._trimmed(found[turn], whole) for turn in turns]
        if whole != text:
            spans[-1] = (spans[-1][0], len(whole))
        return whole, spans

    def _check_words(self, written: Mapping[int, str], messages: Sequence[Message]) -> None:
        """Look whether the words of each answer are where it stands: some templates take content as a list of parts.

        Raises:
            ConfigError: they are not.
        """
        for turn, part in written.items():
            words, found = ("".join(text.split()) for text in (messages[turn]["content"], part))
            if words in found:
                continue
            if words[-LAST:] not in found:
                problem = f"it leaves out the words of turn {turn + 1}"
                raise ConfigError(problem, "set another template", field="chat_template", value=self._template)
            text = "the chat template leaves out a part of an answer, such as its reasoning"
            self.tell(f"{text}; see 'aligntune preview'")

    def _trimmed(self, span: Span, text: str) -> Span:
        """Without the white space after the end of a turn: a model that has written the end is not asked for more."""
        begin, end = span
        answer = text[begin:end].rstrip()
        return (begin, begin + len(answer)) if self._mark_after(answer) else span

    def _before_and_after(self, messages: Sequence[Message], turn: int, text: str, tools: Any) -> Span | None:
        """Where a turn stands, by what the template writes up to it and with it; None where that is written anew."""
        before = self._write(messages[:turn], tools, ask=True)
        last = turn == len(messages) - 1
        until = text if last else self._write(messages[: turn + 1], tools)
        return (len(before), len(until)) if text.startswith(before) and text.startswith(until) else None

    def _marked(self, messages: Sequence[Message], turns: Sequence[int], text: str, tools: Any) -> list[Span]:
        """Where turns stand, by marks around their words: of a template that writes a turn otherwise once more follow.

        Raises:
            DataError: it does not write the words as they are.
        """
        marks = unused(text)
        marked = {turn: with_marks(messages[turn], *marks) for turn in turns}
        counts = [bool(messages[turn]["content"].strip()) + len(messages[turn].get("tool_calls", ())) for turn in turns]
        written = self._write([marked.get(n, message) for n, message in enumerate(messages)], tools)
        places = places_of(written, *marks)
        clear = "".join(character for character in written if character not in marks) == text and all(counts)
        if places is None or not clear or len(places) != sum(counts):
            raise self._unclear(turns[0])
        spans = []
        for turn, count in zip(turns, counts, strict=True):
            own, places = places[:count], places[count:]
            spans.append(self._around(own, messages[turn], text, turn))
        return spans

    def _unclear(self, turn: int) -> DataError:
        problem = f"the chat template writes turn {turn + 1} differently once more turns follow"
        remedy = "set assistant_only_loss: false, or give conversations of one answer"
        return DataError(problem, remedy, field="assistant_only_loss", value=True)

    def _around(self, places: Sequence[Span], message: Message, text: str, turn: int) -> Span:
        """The span of a turn whose words, or the names that it calls, stand at `places`.

        Raises:
            DataError: its beginning or its end cannot be told.
        """
        begin, end = places[0][0], places[-1][1]
        if not message["content"].strip():  # it begins with a call
            asked = self._asked
            begin = text.rfind(asked, 0, begin) + len(asked) if asked and asked in text[:begin] else -1
        if "tool_calls" in message:
            ends = [text.find(mark, end) + len(mark) for mark in self._ends if mark in text[end:]]
            end = min(ends, default=-1)
        else:
            end += self._end_in(text[end:])
        if begin < 0 or end < 0:
            raise self._unclear(turn)
        return begin, end

    @cached_property
    def _asked(self) -> str:
        """What the template writes for an answer to begin."""
        question = [{"role": "user", "content": "a"}]
        alone, asked = self._write(question, None), self._write(question, None, ask=True)
        return asked.removeprefix(alone) if asked.startswith(alone) else ""

    def _end_in(self, rest: str) -> int:
        """How many characters after an answer belong to its end."""
        after = rest.lstrip()
        end = next((mark for mark in self._ends if after.startswith(mark)), "")
        return len(rest) - len(after) + len(end) if end else 0
