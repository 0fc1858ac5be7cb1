"""Whether the libraries' classes are what the libraries wrote: others rewrite them as they are imported."""

from __future__ import annotations

import inspect
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import accelerate
import torch
import transformers
import trl

LIBRARIES: tuple[ModuleType, ...] = (trl, transformers, accelerate, torch)
GENERATED = "<string>"
"""The file of what `dataclasses` writes."""


def _homes() -> tuple[str, ...]:
    """The folders in which their code is, and Python's own."""
    folders = [str(Path(str(module.__file__)).parent) for module in LIBRARIES]
    return (*folders, sysconfig.get_path("stdlib"), GENERATED)


def _code(kind: type) -> Iterator[tuple[str, CodeType]]:
    """The functions that a class defines itself, those under decorators too."""
    for name, value in vars(kind).items():
        function: Any = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        while isinstance(function, FunctionType):
            yield name, function.__code__
            function = getattr(function, "__wrapped__", None)


def changed(kinds: Iterable[type]) -> str | None:
    """The first thing in these classes, or in transformers' own under them, that none of the libraries wrote.

    Returns:
        Its name and where it is from; None where there is nothing.
    """
    homes = _homes()
    for kind in (*kinds, transformers.Trainer, transformers.TrainingArguments):
        if "<locals>" in kind.__qualname__:
            return f"{kind.__name__}, from {inspect.getsourcefile(kind) or kind.__module__}"
        for name, code in _code(kind):
            if not code.co_filename.startswith(homes):
                return f"{kind.__name__}.{name}, from {code.co_filename}"
    return None
