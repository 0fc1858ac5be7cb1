"""Checking data files before any library reads them, so that an error names the file, the line and the remedy."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from aligntune_core.data.source import Source
from aligntune_core.errors import DataError, kind_of

SCANNED = 64 * 2**20
"""Bytes of a file that are checked line by line; of a larger one, these and the last line."""
LONGEST_ROW = 10 * 2**20
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""Where JSON may write half a character."""


def misfit(row: Mapping[str, Any], seen: dict[str, str]) -> str:
    """Which column of a row has another type than in the rows before, which `seen` keeps; empty where none has."""
    for column, value in row.items():
        kind = kind_of(value)
        if value is not None and seen.setdefault(column, kind) != kind:
            return f"column '{column}': {kind}, where the rows before have {seen[column]}"
    return ""


class Checker:
    """The checks of one file, and of a line of it; `field` is the setting that named it."""

    def __init__(self, path: Path, field: str) -> None:
        self.path, self.field = path, field

    def fail(self, problem: str, remedy: str) -> NoReturn:
        raise DataError(problem, remedy, field=self.field, value=str(self.path))

    def decode(self, raw: bytes, line: int) -> str:
        if len(raw) > LONGEST_ROW:
            self.fail(f"line {line} has {len(raw):,} bytes", f"a row may have {LONGEST_ROW:,}; split it")
        try:
            return raw.decode("utf-8-sig" if line == 1 else "utf-8")
        except UnicodeDecodeError as error:
            bad = raw[error.start]
            self.fail(
                f"line {line}: byte 0x{bad:02x} is not UTF-8", "convert the file, such as with iconv -f latin1 -t utf8"
            )

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(number, bytes) of each line up to the scan limit; then the last line, as number -1."""
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            number = 0
            while file.tell() < SCANNED and (raw := file.readline(LONGEST_ROW + 2)):
                number += 1
                yield number, raw
            if file.tell() < size:
                file.seek(max(size - LONGEST_ROW, 0))
                yield -1, file.read().rstrip(b"\n").rpartition(b"\n")[2]

    def object_in(self, raw: bytes, line: int, *, last: bool = False) -> dict[str, Any]:
        """The object in a line of JSON; line -1 is the last one, `last` that nothing may have been written after it.

        Raises:
            DataError: it is not UTF-8, no JSON, no object, or has half a character.
        """
        text, where = self.decode(raw, line), self.place(line)
        try:
            row = json.loads(text)
        except ValueError as error:
            what = "ends early" if last else f"is not JSON ({error})"
            self.fail(f"{where} {what}", "mend or remove the line")
        except RecursionError:
            self.fail(f"{where} is nested too deeply", "mend or remove the line")
        if not isinstance(row, dict):
            self.fail(f"{where} holds {kind_of(row)}, not an object", 'write {"column": value} in each line')
        if _HALF.search(text):
            self.whole_characters(row, where)
        return row

    @staticmethod
    def place(line: int) -> str:
        return f"line {line}" if line > 0 else "the last line"

    def whole_characters(self, value: Any, where: str) -> None:
        r"""Refuse one half of a character that is written as two, such as a lone \ud83d, which no library can write."""
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            self.fail(f"{where} has half a character, {half}", "write both halves, or take it out")

    def same_types(self, row: dict[str, Any], where: str, seen: dict[str, str]) -> None:
        """A column keeps one type from row to row; null fits any."""
        if text := misfit(row, seen):
            self.fail(f"{where}, {text}", "use one type")

    def jsonl(self) -> None:
        seen: dict[str, str] = {}
        rows = 0
        pending: tuple[int, bytes] | None = None
        for number, raw in self.lines():
            if pending:
                rows += self._line(*pending, seen, last=False)
            pending = number, raw
        if pending:
            rows += self._line(*pending, seen, last=not pending[1].endswith(b"\n"))
        if not rows:
            self.fail("has 0 rows", "give a file with rows")

    def _line(self, number: int, raw: bytes, seen: dict[str, str], *, last: bool) -> int:
        if not raw.strip():
            return 0
        self.same_types(self.object_in(raw, number, last=last), self.place(number), seen)
        return 1

    def json(self) -> None:
        """A list of objects; any other start means one object a line."""
        with self.path.open("rb") as file:
            first = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")[0]
        if first.strip() == b"{":
            self.fail("holds one object, not rows", "write a list of objects, or one object a line")
        if first[:1] != b"[":
            self.jsonl()
            return
        try:
            text = self.path.read_text("utf-8-sig")
            rows = json.loads(text)
        except UnicodeDecodeError as error:
            self.fail(f"byte {error.start} is not UTF-8", "convert the file to UTF-8")
        except (ValueError, RecursionError) as error:
            self.fail(f"is not JSON ({error})", "mend the file")
        if not rows:
            self.fail("has 0 rows", "give a file with rows")
        seen: dict[str, str] = {}
        halves = _HALF.search(text)
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict):
                self.fail(f"row {number} holds {kind_of(row)}, not an object", "write a list of objects")
            self.same_types(row, f"row {number}", seen)
            if halves:
                self.whole_characters(row, f"row {number}")

    def csv(self) -> None:
        text = (self.decode(raw, number) for number, raw in self.lines() if number > 0)
        reader = csv.reader(text, strict=True)
        try:
            header = next(reader, [])
            if twice := sorted({name for name in header if header.count(name) > 1}):
                self.fail(f"two columns are called '{twice[0]}'", "rename one")
            rows = 0
            for rows, row in enumerate(reader, 1):  # noqa: B007 - the count is used
                if row and len(row) != len(header):
                    self.fail(
                        f"line {reader.line_num} has {len(row)} fields, the header {len(header)}", "quote or mend it"
                    )
        except csv.Error as error:
            self.fail(f"line {reader.line_num}: {error}", "quote or mend the field")
        if not rows:
            self.fail("has 0 rows", "give a file with a header and rows")

    def parquet(self) -> None:
        with self.path.open("rb") as file:
            start = file.read(4)
            file.seek(max(self.path.stat().st_size - 4, 0))
            if start != b"PAR1" or file.read(4) != b"PAR1":
                self.fail("is not a whole Parquet file", "write or copy it again")

    def check(self) -> None:
        try:
            with self.path.open("rb") as file:
                start = file.read(4)
        except OSError as error:
            self.fail(error.strerror or str(error), "make the file readable")
        if not start:
            self.fail("has 0 rows, the file is empty", "give a file with rows")
        if start[:2] in (b"\xff\xfe", b"\xfe\xff") or (b"\0" in start and start != b"PAR1"):
            self.fail("is UTF-16", "convert it, such as with iconv -f utf16 -t utf8")
        getattr(self, self.path.suffix.lower().lstrip("."))()


def check_files(source: Source, field: str = "dataset_name") -> None:
    """Check that each file is whole and of one shape; nothing is imported that is not in Python itself.

    Raises:
        DataError: file, line or row, column, and what to do.
    """
    for path in source.files:
        Checker(path, field).check()
