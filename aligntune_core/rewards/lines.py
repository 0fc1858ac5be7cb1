"""Where in the user's own code an error came by."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any


def home_of(function: Callable[..., Any]) -> str | None:
    """The file that a function, or the class of an object that can be called, is written in; None where unknown."""
    try:
        while hasattr(function, "func"):  # partials
            function = function.func
        function = inspect.unwrap(function)
        code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    except Exception:  # noqa: BLE001 - an object may answer anything when asked for an attribute
        return None
    return code.co_filename if isinstance(code, CodeType) else None


def line_of(error: BaseException, home: str | None, *, elsewhere: bool = True) -> str:
    """` (FILE:LINE)`: the last line in the file `home` that the error passed; or, elsewhere, where it was raised."""
    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [line for line in lines if line[0] == home] or (lines[-1:] if elsewhere else [])
    return f" ({Path(own[-1][0]).name}:{own[-1][1]})" if own else ""
