"""The program of the child process that looks at what a model wrote where that may take for ever, or evaluate it.

Run by its path, with nothing of ours imported: `python -P child.py`. It reads lines of JSON: first what it is to
check with, then a line for each completion. Each is answered with one line: {"score": number or null}, or
{"late": true} where the time was not enough, or {"error": text}.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

MEMORY = 2 * 1024**3
"""Bytes of address space."""
DEPTH = 100
"""Levels of a JSON value."""
LONGEST = 1_000_000
"""Characters of a JSON text."""
AGAIN = 0.2
"""Seconds until the alarm rings again, where a library's `except:` swallowed it."""

Check = Callable[[str, Any], "float | None"]


class OutOfTimeError(BaseException):
    """No `except Exception` of a library stops it."""


def _ring(number: int, frame: FrameType | None) -> None:
    raise OutOfTimeError


@contextmanager
def within(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def check_format(options: dict[str, Any]) -> Check:
    """Whether a text matches a regular expression."""
    pattern = re.compile(options["pattern"], re.DOTALL)
    found = pattern.fullmatch if options["full"] else pattern.search
    return lambda text, answer: float(found(text) is not None)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner for v in level if isinstance(v, dict | list) for inner in (v.values() if isinstance(v, dict) else v)
        ]
    return bool(level)


def check_json_schema(options: dict[str, Any]) -> Check:
    """Whether a text is a JSON value that fits a schema. A reference to another document is never followed."""
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    schema = options["schema"]
    kind = validator_for(schema, default=validator_for({"$schema": options["draft"]}))
    validator = kind(schema, registry=Registry())

    def check(text: str, answer: Any) -> float:
        if len(text) > LONGEST:
            return 0.0
        try:
            value = json.loads(text, parse_constant=_no_constant)
            return float(not _too_deep(value) and validator.is_valid(value))
        except Unresolvable:  # the schema is wrong, and no completion's fault
            raise
        except Exception:  # noqa: BLE001 - no JSON; or a number that the library cannot reckon with
            return 0.0

    return check


def check_math(options: dict[str, Any]) -> Check:
    """Whether the last answer in a text equals the right one, as math-verify judges. It parses by `eval`."""
    from math_verify import (  # type: ignore[import-untyped]
        ExprExtractionConfig,
        LatexExtractionConfig,
        parse,
        verify,
    )

    how = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]

    def read(text: str) -> Any:
        return parse(text, extraction_config=how, parsing_timeout=None)

    def right(answer: str) -> Any:
        """As it stands, or else as LaTeX without its signs; a word is no formula, though LaTeX would multiply it."""
        word = len(answer) > 1 and re.sub(r"\s", "", answer).isalpha()
        return read(answer) or (None if word else read(f"${answer}$"))

    def check(text: str, answer: Any) -> float | None:
        expected = right(str(answer).strip())
        if not expected:
            return None
        try:
            return float(verify(expected, read(text), timeout_seconds=None))
        except Exception:  # noqa: BLE001 - what a model wrote may trip the library in any way
            return 0.0

    if check(r"It is \boxed{x^2 + 2x + 1}.", "$(x+1)^2$") != 1.0:  # and so all that it needs is imported
        raise RuntimeError("math-verify does not find that x^2 + 2x + 1 is (x+1)^2")
    return check


CHECKS = {"format": check_format, "json_schema": check_json_schema, "math": check_math}


def _limit() -> None:
    """Little memory, no files written, no core dumps: what math-verify evaluates is not to be trusted."""
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _answer(check: Check, request: dict[str, Any]) -> dict[str, Any]:
    try:
        with within(request["seconds"]):
            return {"score": check(request["text"], request["answer"])}
    except OutOfTimeError:
        return {"late": True}
    except (MemoryError, RecursionError):  # what was written is too large, so it is not what was asked for
        return {"score": 0.0}
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent is told
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def main() -> None:
    """Answer until the parent closes the pipe."""
    requests, answers = sys.stdin, os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    signal.signal(signal.SIGALRM, _ring)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    job = json.loads(requests.readline())
    try:
        check = CHECKS[job["check"]](job["options"])
        _limit()
    except Exception as error:  # noqa: BLE001
        say({"error": f"{type(error).__name__}: {error}"[:500]})
        return
    say({"score": None})
    for line in requests:
        say(_answer(check, json.loads(line)))


if __name__ == "__main__":
    main()
