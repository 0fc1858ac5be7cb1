"""The parent's side of the child process: a long-lived child for each reward, replaced when it hangs or dies."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aligntune_core.rewards.values import AtRow

log = logging.getLogger("aligntune")

PROGRAM = Path(__file__).with_name("child.py")
START_UP = 120.0
"""Seconds that a child may take to be ready; math-verify imports sympy."""
PATIENCE = 12
"""So many times what one completion may take is a batch given; after that, each gets a tenth."""
GRACE = 1.0
"""Seconds after which a child that does not answer to its own alarm is ended."""
_PASSED_ON = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "HOME", "VIRTUAL_ENV")
"""Of the environment a child gets no more: tokens are none of its business."""


class _EndedError(Exception):
    """The child is no more."""


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """Close the pipes and wait; in a fork of the process that started it, only the pipes."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was still to be written has no reader
                continue
    if os.getpid() == owner:
        process.kill()
        process.wait()


class _Child:
    """One child: a question, and its answer within a time."""

    def __init__(self, check: str, options: Mapping[str, Any]) -> None:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-B", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        self.owner = os.getpid()
        self.end = weakref.finalize(self, _end, self.process, self.owner)
        try:
            ready = self.ask({"check": check, "options": dict(options)}, START_UP)
            if "error" in ready:
                raise RuntimeError(ready["error"])
        except BaseException:
            self.end()
            raise

    @property
    def alive(self) -> bool:
        return os.getpid() == self.owner and self.process.poll() is None

    def ask(self, question: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Its answer.

        Raises:
            TimeoutError: there is none in time.
            _EndedError: it ended instead.
        """
        try:
            self._write((json.dumps(question) + "\n").encode())
            line = self._line(time.monotonic() + seconds)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise _EndedError from error
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None  # noqa: S101 - it is a pipe
        while data:
            data = data[self.process.stdin.write(data) or 0 :]

    def _line(self, until: float) -> bytes:
        assert self.process.stdout is not None  # noqa: S101
        heard, line = select.poll(), b""
        heard.register(self.process.stdout, select.POLLIN | select.POLLHUP)
        while not line.endswith(b"\n"):
            if not heard.poll(max(until - time.monotonic(), 0) * 1000):
                raise TimeoutError
            more = self.process.stdout.read(65536)
            if not more:
                raise _EndedError
            line += more
        return line


class Apart:
    """Scores completions in a child process.

    A completion that takes longer than `seconds` scores 0. Once a batch has taken `PATIENCE` times as long, so that
    many of its completions must have been of this kind, each of the others gets a tenth of it.
    """

    def __init__(self, check: str, options: Mapping[str, Any], seconds: float) -> None:
        self._check, self._options, self._seconds = check, options, seconds
        self._child: _Child | None = None
        self._lock = threading.Lock()
        self._told = False

    def scores(self, questions: Sequence[tuple[str, Any]]) -> list[float | None]:
        """A score for each (completion, right answer).

        Raises:
            AtRow: the check itself failed on a completion.
            RuntimeError: the child does not start.
        """
        with self._lock:
            self._ready()
            until = time.monotonic() + self._seconds * PATIENCE
            return list(self._each(questions, until))

    def _each(self, questions: Sequence[tuple[str, Any]], until: float) -> Iterable[float | None]:
        for index, (text, answer) in enumerate(questions):
            limit = self._seconds if time.monotonic() < until else self._seconds / 10
            reply = self._asked({"text": text, "answer": answer, "seconds": limit})
            if "error" in reply:
                raise AtRow(index, f"the check failed: {reply['error']}")
            if "late" in reply:
                self._tell(limit)
            yield 0.0 if "late" in reply else reply["score"]

    def _asked(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The child's reply. One that died may have been ended by somebody else, so the question is put once more."""
        for _ in range(2):
            child = self._ready()
            try:
                return child.ask(question, question["seconds"] + GRACE)
            except TimeoutError:
                self._leave()
                return {"late": True}
            except _EndedError:
                self._leave()
        return {"score": 0.0}

    def _ready(self) -> _Child:
        if self._child is None or not self._child.alive:
            self._leave()
            try:
                self._child = _Child(self._check, self._options)
            except (_EndedError, TimeoutError) as error:
                how = "takes too long" if isinstance(error, TimeoutError) else "ends at once"
                raise RuntimeError(f"the process that checks {self._check} {how}") from error
        return self._child

    def _leave(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _tell(self, seconds: float) -> None:
        if not self._told:
            self._told = True
            log.warning("%s: a completion could not be checked within %.2g s, and scores 0", self._check, seconds)
