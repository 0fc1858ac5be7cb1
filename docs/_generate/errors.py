"""The errors, from their classes."""

from __future__ import annotations

import signal

from _generate.markdown import code, docstring, table
from _generate.markdown import page as make_page
from aligntune_core import errors
from aligntune_core.errors import AlignTuneError, RunInterrupted

_MEANING = {
    0: "Done. For `train`: the planned steps were reached and the saved model loads.",
    1: "A bug of AlignTune's; the traceback is in the run folder's `log.txt`.",
    2: "What was asked for is wrong: a setting, a name, the data, the command's usage. Nothing was written.",
    3: "No backend can do it here: not installed, not available, a plugin or a worker that broke.",
    4: "The user's own code failed, such as a reward function.",
    5: "A loss, a gradient or a reward is not finite.",
    6: "The disk is full or not writable.",
}


def _classes() -> list[type[BaseException]]:
    """In the order in which they stand in the module."""
    found = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, AlignTuneError | RunInterrupted)]
    return [c for c in found if c.__module__ == errors.__name__]


def _exit(cls: type[BaseException]) -> str:
    if issubclass(cls, AlignTuneError):
        return str(cls.exit_code)
    return " or ".join(str(RunInterrupted("", number).exit_code) for number in (signal.SIGINT, signal.SIGTERM))


def _first_line(cls: type[BaseException]) -> str:
    return docstring(cls.__doc__).split("\n")[0]


def exit_codes() -> str:
    """The table of exit codes."""
    by_code: dict[str, list[str]] = {}
    for cls in _classes()[1:]:
        by_code.setdefault(_exit(cls), []).append(code(cls.__name__))
    rows = [[str(number), text, ", ".join(by_code.get(str(number), []))] for number, text in _MEANING.items()]
    for number, what in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")):
        text = f"{what}: state was saved, and how to resume is printed."
        rows.append([str(RunInterrupted("", number).exit_code), text, code(RunInterrupted.__name__)])
    return table(["exit code", "meaning", "errors"], rows)


def page() -> str:
    """The page of all errors."""
    intro = (
        "Every error that AlignTune raises on purpose is an `AlignTuneError` with `.field`, `.value`, `.problem` and "
        "`.remedy`. Its text is `field = value: problem; remedy`; several bad fields give one line each, and all of "
        "them are in `.problems`. Each is also the Python error that you would expect, so `except ImportError` and "
        "`except ValueError` work. They can be imported from `aligntune`."
    )
    strict = (
        "`list-backends`, `matrix`, `plugins` and `diagnose` exit with 0 when they could report, and with 3 under "
        "`--strict` if something that they report is broken."
    )
    sections = []
    for cls in _classes():
        also = [code(base.__name__) for base in cls.__bases__ if base not in (AlignTuneError, Exception)]
        python = f" Also a Python {also[0]}." if also else ""
        sections.append(f"### {code(cls.__name__)}\n\n{_first_line(cls)}\n\nExit code {_exit(cls)}.{python}")
    return make_page("Errors and exit codes", intro, "## Exit codes", exit_codes(), strict, "## Errors", *sections)
