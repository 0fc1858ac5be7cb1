"""A preview as people read it, on a terminal or in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby

from rich.console import Console
from rich.text import Text

from aligntune_core.preview import Counts, Shown, Token
from aligntune_core.values import RowPreview

TRAINED, CONTEXT, SPECIAL, ODD = "bold green", "dim", " reverse", "yellow"
WIDTH = 11
"""Columns of the summary's labels."""
TEMPLATES = {
    "tokenizer": "the tokenizer's own",
    "chat_template": "given by chat_template",
    "plain": "the plain format, for the tokenizer has none",
    "": "none: the rows are no conversations",
}
"""Where a chat template is from, in words."""


class Page:
    """A preview on a terminal, or as plain text: there trained text stands in [[ ]], a special token in ‹ ›."""

    def __init__(self, shown: Shown) -> None:
        self.shown = shown
        self.console: Console = Console(highlight=False, markup=False, emoji=False)
        self.coloured = self.console.color_system is not None and not self.console.no_color
        able = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
        self.newline, self.tab, self.bar, self.dot = ("↵", "⇥", "│", "·") if able else ("\\n", "\\t", "|", "-")
        self.special = "‹{}›" if able else "{{{}}}"

    def print(self) -> None:
        for number, row in enumerate(self.shown.rows, 1):
            self._print_row(number, row)
        self._print_summary()

    # rows

    def _print_row(self, number: int, row: RowPreview) -> None:
        title = Text(f"row {number}", style="bold")
        if row.cut:
            title.append(f" {self.dot} cut at max_seq_length {self.shown.longest}", style=ODD)
        if row.left_out:
            title.append(f" {self.dot} left out of the run", style=ODD)
        for name, part in row.parts.items():
            tokens = self.shown.tokens(part)
            what = "" if name == "row" else f"{name}, "
            title.append(f" {self.dot} {what}{self._size(tokens)}", style="not bold dim" if self.coloured else "")
            self._put(title)
            self._body(tokens)
            title = Text(" " * len(f"row {number}"))
        if row.label:
            self._line(f"  label: {row.label}", TRAINED)
        self._line("")

    def _size(self, tokens: list[Token]) -> str:
        trained = sum(token.trained for token in tokens)
        return f"{_count(len(tokens), 'token')}, {trained:,} trained"

    def _body(self, tokens: list[Token]) -> None:
        """The tokens, on lines as the text has them; a terminal's own breaks are indented like them."""
        for line in self._lines(tokens):
            if not self.console.is_terminal:
                self._put(self._barred(line))
                continue
            for piece in line.wrap(self.console, max(self.console.width - 4, 20), overflow="fold") or [line]:
                self._put(self._barred(piece))

    def _barred(self, line: Text) -> Text:
        return Text.assemble((f"  {self.bar} ", CONTEXT if self.coloured else ""), line)

    def _lines(self, tokens: list[Token]) -> Iterator[Text]:
        line = Text()
        for trained, run in groupby(tokens, key=lambda token: token.trained):
            line.append("" if self.coloured or not trained else "[[")
            for token in run:
                first, *others = self._escaped(token)
                line.append(first, style=self._style(token))
                for other in others:
                    yield line
                    line = Text(other, style=self._style(token))
            line.append("" if self.coloured or not trained else "]]")
        if line.plain:
            yield line

    def _style(self, token: Token) -> str:
        if not self.coloured:
            return ""
        return (TRAINED if token.trained else CONTEXT) + (SPECIAL if token.special else "")

    def _escaped(self, token: Token) -> list[str]:
        """A token's text in lines; what a terminal would act on is written out, a special token is marked."""
        text = "".join(map(self._character, token.text))
        return (self.special.format(text) if token.special and not self.coloured else text).split("\n")

    def _character(self, character: str) -> str:
        if character == "\n":
            return f"{self.newline}\n"
        if character == "\t":
            return self.tab
        return character if character.isprintable() else repr(character)[1:-1]

    # the summary

    def _print_summary(self) -> None:
        if self.shown.rows:
            styles = (TRAINED, CONTEXT, CONTEXT + SPECIAL) if self.coloured else ("", "", "")
            words = "trained", "context", "special" if self.coloured else self.special.format("special")
            words = words if self.coloured else (f"[[{words[0]}]]", *words[1:])
            text = Text(f"{'marks':<{WIDTH}}")
            for word, style in zip(words, styles, strict=True):
                text.append(word, style=style).append("  ")
            text.rstrip()
            self._put(text)
        for label, value, odd in self._summary():
            self._line(f"{label:<{WIDTH}}{value}", ODD if odd else "")

    def _summary(self) -> Iterator[tuple[str, str, bool]]:
        """What is known of all rows: label, text, and whether it should make one think."""
        counts, plan, columns = self.shown.counts, self.shown.plan, self.shown.plan.rows.columns
        yield "looked at", self._looked_at(), False
        used = "+".join(columns.used)
        yield "columns", f"{used}, read as {columns.format}" if columns.format else used or "none", False
        if columns.rewards:
            yield "rewards", f"get {', '.join(columns.rewards)}", False
        yield "not used", ", ".join(columns.unused) or "none", False
        if self.shown.preview.template or plan.rows.shape.endswith("messages"):
            yield "template", TEMPLATES.get(self.shown.preview.template, self.shown.preview.template), False
        if plan.config.rows == "prompts":
            yield "trained", "what the model answers to the prompts", False
        else:
            yield "trained", self._share(counts), not (counts.trained or counts.labelled)
            yield from self._lost(counts)
        yield from self._begin(counts)
        yield from self._end(counts)

    def _share(self, counts: Counts) -> str:
        if counts.labelled:
            of = _count(counts.labelled, "row")
            tagged = self.shown.plan.rows.shape == "tagged"
            return f"a label for each of {counts.trained:,} words in {of}" if tagged else f"a label for each of {of}"
        share = f"{counts.trained:,} of {counts.tokens:,} tokens, {100 * counts.share:.1f} %"
        return share if counts.trained else f"{share}: a run is refused"

    def _looked_at(self) -> str:
        rows, there_are = self.shown.counts.rows, self.shown.there_are
        longest = f"the longest has {self.shown.counts.longest:,} tokens"
        if rows == there_are:
            return f"all {_count(rows, 'training row')}; {longest}"
        of = "" if there_are is None else f" of {there_are:,}"
        return f"the first {rows:,}{of} training rows; {longest}"

    def _lost(self, counts: Counts) -> Iterator[tuple[str, str, bool]]:
        if self.shown.longest is not None:
            yield "cut", f"{_count(counts.cut, 'row')} at max_seq_length {self.shown.longest:,}", bool(counts.cut)
        because = f"; in {counts.untrained:,} nothing is trained" if counts.untrained else ""
        yield "left out", f"{_count(counts.left_out, 'row')}{because}", bool(counts.left_out)

    def _begin(self, counts: Counts) -> Iterator[tuple[str, str, bool]]:
        bos = self.shown.preview.bos
        if bos is None:
            yield "begin", "the tokenizer has no token for it", False
            return
        text, once, without = self.shown.preview.texts([bos])[0], counts.begun[1], counts.begun[0]
        doubled = counts.parts - once - without
        told = [f"with {text} once: {once:,}"] if once else []
        told += [f"without {text}: {without:,}"] if without else []
        told += [f"with {text} more than once: {doubled:,}"] if doubled else []
        if len(told) == 1:
            told = [told[0].rpartition(":")[0] + ": all"]
        yield "begin", "; ".join(told), bool(doubled)

    def _end(self, counts: Counts) -> Iterator[tuple[str, str, bool]]:
        if not counts.whole:
            return
        told = [f"with {self.shown.preview.texts([token])[0]}: {n:,}" for token, n in counts.ends.most_common()]
        told += [f"with no token that ends something: {counts.unended:,}"] if counts.unended else []
        if len(told) == 1 and not counts.cut:
            told = [told[0].rpartition(":")[0] + ": all"]
        yield "end", "; ".join(told), bool(counts.unended)

    # output

    def _line(self, text: str, style: str = "") -> None:
        self._put(Text("".join(map(self._character, text)), style=style if self.coloured else ""))

    def _put(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
