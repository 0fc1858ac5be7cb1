"""An error as a message, and back: it keeps its class, its problems and whose code it came from."""

from __future__ import annotations

import builtins
import contextlib
import traceback
from typing import Any

from aligntune_core import errors
from aligntune_core.errors import AlignTuneError, Problem, first_line

_PLAIN = (str, int, float, bool, type(None))


def packed(error: BaseException) -> dict[str, Any]:
    """The error as JSON can tell it."""
    found: dict[str, Any] = {
        "type": type(error).__name__,
        "text": str(error),
        "notes": [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)],
        "traceback": "".join(traceback.format_exception(error)),
    }
    if isinstance(error, AlignTuneError):
        found["problems"] = [
            [p.field, p.value, p.problem, p.remedy, p.given if isinstance(p.given, _PLAIN) else p.value]
            for p in error.problems
        ]
    if isinstance(error, OSError):
        found["errno"] = error.errno
    return found


def unpacked(told: dict[str, Any]) -> BaseException:
    """The error again. One of a library's own class becomes a RuntimeError that names it.

    Returns:
        Not raised yet; the traceback of the other process is its `__cause__`.
    """
    error = _made(told)
    for note in told["notes"]:
        error.add_note(note)
    error.__cause__ = ElsewhereError(told["traceback"])
    return error


def _made(told: dict[str, Any]) -> BaseException:
    if "problems" in told:
        own = getattr(errors, told["type"], None)
        if not (isinstance(own, type) and issubclass(own, AlignTuneError)):
            own = AlignTuneError  # it was a plugin's own class
        return own([Problem(*problem) for problem in told["problems"]])
    standard = getattr(builtins, told["type"], None)
    if isinstance(standard, type) and issubclass(standard, Exception):
        numbered = issubclass(standard, OSError) and told.get("errno")
        with contextlib.suppress(TypeError):  # such as UnicodeDecodeError, which takes five arguments
            return standard(told["errno"], told["text"]) if numbered else standard(told["text"])
    return RuntimeError(f"{told['type']}: {first_line(told['text'])}")


class ElsewhereError(Exception):
    """Where an error came from in the worker: its traceback there, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"
