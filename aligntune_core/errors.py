"""Every error that AlignTune raises on purpose, with the exit code that the command line gives it.

    AlignTuneError                                1  (a bug of ours when raised bare)
    ├── ConfigError (ValueError)                  2  a setting; carries all bad fields at once
    ├── UnknownAlgorithmError (ValueError)        2
    ├── UnknownBackendError (ValueError)          2
    ├── UnsupportedAlgorithmError (ValueError)    2  the backend cannot train what was asked
    ├── DataError (ValueError)                    2  a data file or a row
    ├── BackendUnavailableError (ImportError)     3  known, but it cannot run here
    ├── NoBackendError (ImportError)              3  `auto` found none
    ├── PluginLoadError (ImportError)             3
    ├── PluginContractError (TypeError)           3
    ├── WorkerDiedError (RuntimeError)            3  the process that trained has ended
    ├── RewardError (RuntimeError)                4  the user's own code
    ├── DivergedError (ArithmeticError)           5  a loss, gradient or reward that is not finite
    └── StorageError (OSError)                    6  disk full, not writable
    RunInterrupted (KeyboardInterrupt)      130/143  Ctrl-C, SIGTERM: state was saved

Each says what is wrong and what to do: `field = value: problem; remedy`, one line a field.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

_MISSING: Final = object()
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60
_short.maxlist = _short.maxdict = _short.maxtuple = 4
LONGEST_NAME, LONGEST_VALUE, LONGEST_TEXT = 64, 100, 1000


def one_line(text: str, longest: int = LONGEST_TEXT) -> str:
    """One line of printable text, not too long: what a file or a model wrote may hold anything."""
    text = "".join(char if char.isprintable() else " " for char in text[: longest + 1]).strip()
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _shown(value: object) -> str:
    try:
        return one_line(_short.repr(value), LONGEST_VALUE)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a value that cannot be shown, such as a number of 5000 digits, is still told
        return f"<{one_line(type(value).__name__, LONGEST_VALUE)}>"


_KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a mapping"}


def kind_of(value: object) -> str:
    """The plain word for what a value is."""
    return "null" if value is None else _KINDS.get(type(value), f"a {type(value).__name__}")


NAMED = 5
"""Rows that are named by their numbers; the others are counted."""


def numbered(rows: Sequence[int], what: str = "row") -> str:
    """The numbers of rows, or of `what`, the first few."""
    more = ", …" if len(rows) > NAMED else ""
    return f"{what}{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:NAMED]))}{more}"


def gist(error: object) -> str:
    """The first sentence of another library's error, short enough to stand within ours."""
    return one_line(first_line(error).split(". ")[0].rstrip("."), 120) or type(error).__name__


def first_line(error: object) -> str:
    """The first line of another library's error; empty for one that cannot even be printed."""
    try:
        return one_line(str(error)[:LONGEST_TEXT].strip().split("\n")[0], 300)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - __str__ of a foreign class may do anything, end the process too
        return ""


def told(error: BaseException) -> str:
    """Another library's error in a line, with its type."""
    return f"{one_line(type(error).__name__, LONGEST_NAME)}: {first_line(error)}"


_BLAME = "in "


def blame(error: BaseException, who: str) -> None:
    """Note on an error that left a plugin's code whose code that was; the first note stays."""
    if blamed(error) is None:
        error.add_note(f"{_BLAME}{who}")


def blamed(error: BaseException) -> str | None:
    """Whose code an error came from, where `blame` noted it."""
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    return next((note.removeprefix(_BLAME) for note in notes if note.startswith(_BLAME)), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `value` is its short text form, or None where there is no value."""

    field: str | None
    value: str | None
    problem: str
    remedy: str = ""
    given: Any = dataclasses.field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, field: str | None, problem: str, remedy: str = "", *, value: Any = _MISSING) -> Problem:
        shown = None if value is _MISSING else _shown(value)
        given = None if value is _MISSING else value
        name = None if field is None else one_line(field, LONGEST_VALUE)
        return cls(name, shown, one_line(problem), one_line(remedy), given)

    def __str__(self) -> str:
        head = self.field or ""
        if self.value is not None:
            head += f" = {self.value}" if head else self.value
        text = f"{head}: {self.problem}" if head else self.problem
        return f"{text}; {self.remedy}" if self.remedy else text

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the value itself where JSON has a word for it that is short, else its text."""
        short_text = isinstance(self.given, str) and len(self.given) < LONGEST_VALUE and self.given.isprintable()
        small_number = isinstance(self.given, int) and abs(self.given) < 2**53
        value = self.given if short_text or small_number else self.value
        return {"field": self.field, "value": value, "problem": self.problem, "remedy": self.remedy}


class AlignTuneError(Exception):
    """The base of all. `.field`, `.value`, `.problem`, `.remedy` are those of the first problem."""

    exit_code: ClassVar[int] = 1
    problems: tuple[Problem, ...]

    def __init__(
        self,
        problem: str | Sequence[Problem],
        remedy: str = "",
        *,
        field: str | None = None,
        value: Any = _MISSING,
    ) -> None:
        if isinstance(problem, str):
            self.problems = (Problem.of(field, problem, remedy, value=value),)
        else:
            self.problems = tuple(problem) or (Problem.of(None, "something is wrong, and it is not said what"),)
        super().__init__("\n".join(map(str, self.problems)))

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))

    @property
    def field(self) -> str | None:
        return self.problems[0].field

    @property
    def value(self) -> Any:
        """What was given, as it was given."""
        return self.problems[0].given

    @property
    def problem(self) -> str:
        return self.problems[0].problem

    @property
    def remedy(self) -> str:
        return self.problems[0].remedy


class ConfigError(AlignTuneError, ValueError):
    """One or more settings are unknown, of the wrong type, out of range or at odds with each other."""

    exit_code = 2


class UnknownAlgorithmError(AlignTuneError, ValueError):
    """No algorithm has this name; the choices are in the remedy."""

    exit_code = 2


class UnknownBackendError(AlignTuneError, ValueError):
    """No installed backend, and none of ours, has this name; the choices are in the remedy."""

    exit_code = 2


class UnsupportedAlgorithmError(AlignTuneError, ValueError):
    """The named backend does not train this algorithm, task or model type; the remedy names one that does."""

    exit_code = 2


class DataError(AlignTuneError, ValueError):
    """A data file cannot be read, or its rows do not fit; file, line or row, and column are named."""

    exit_code = 2


class BackendUnavailableError(AlignTuneError, ImportError):
    """The backend exists but cannot run here: not installed, no fit device, versions that do not work."""

    exit_code = 3


class NoBackendError(AlignTuneError, ImportError):
    """`backend="auto"` found no installed backend that trains this and is available."""

    exit_code = 3


class PluginLoadError(AlignTuneError, ImportError):
    """A plugin that was asked for cannot be loaded; its own error is the cause."""

    exit_code = 3


class PluginContractError(AlignTuneError, TypeError):
    """A plugin gave something else than the hook promises."""

    exit_code = 3


class WorkerDiedError(AlignTuneError, RuntimeError):
    """The process that trained has ended by itself or was killed; the last good checkpoint is intact."""

    exit_code = 3


class RewardError(AlignTuneError, RuntimeError):
    """A reward function, or other code of the user's, failed."""

    exit_code = 4


class DivergedError(AlignTuneError, ArithmeticError):
    """A loss, a gradient or a reward is not finite; no checkpoint was written after that."""

    exit_code = 5

    @classmethod
    def at(cls, step: int, name: str, value: float) -> DivergedError:
        """The error for the number `name` of a step."""
        remedy = "lower learning_rate, or set precision: fp32; checkpoints up to the step before are good"
        return cls(f"is not finite at step {step}", remedy, field=name, value=value)


class StorageError(AlignTuneError, OSError):
    """The disk is full or not writable; the last good checkpoint is intact."""

    exit_code = 6


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended the run after its state was saved; `str()` says how to resume."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        return 128 + self.signal_number
