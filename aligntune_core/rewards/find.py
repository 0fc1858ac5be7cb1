"""The function that `FILE.py:name` or `module:function` means."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from functools import reduce
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, cast

from aligntune_core.algorithms import did_you_mean
from aligntune_core.errors import ConfigError, told
from aligntune_core.rewards.lines import line_of

FIELD = "reward_functions"


def refused(entry: Any, problem: str, remedy: str) -> ConfigError:
    """The error for one entry of the setting."""
    return ConfigError(problem, remedy, field=FIELD, value=entry)


def is_address(entry: str) -> bool:
    """Whether this is `FILE.py:name` or `module:function`, and no name of the registry."""
    return ":" in entry or entry.endswith(".py") or "/" in entry


def split(entry: str) -> tuple[Path | str, str]:
    """The file or module, and the name in it.

    Raises:
        ConfigError: one of them is missing.
    """
    home, colon, name = (part.strip() for part in entry.rpartition(":"))
    if not colon or not home or not name.replace(".", "").isidentifier():
        if "/" in entry and not entry.endswith(".py") and not colon:
            remedy = "a reward model goes into reward_model_name; a function is FILE.py:name or module:function"
            raise refused(entry, "is neither a reward nor a function", remedy)
        raise refused(entry, "names no function", f"write {home or entry.strip(':')}:name, with the function's name")
    return (Path(home).expanduser(), name) if home.endswith(".py") or "/" in home else (home, name)


def file_of(entry: str, path: Path) -> Path:
    """The file, resolved.

    Raises:
        ConfigError: there is none.
    """
    try:
        found = path.resolve()
        there = found.is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, a loop of links
        there = False
    if not there:
        raise refused(entry, "this file does not exist", f"it is looked for in {Path.cwd()}; give its whole path")
    return found


class _FromSource(SourceFileLoader):
    """Reads a file as it is now, and writes no compiled copy beside it: the folder is the user's."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_file(entry: str, path: Path) -> ModuleType:
    """The module that a file holds, run once for each content that the file has had.

    It gets a name of its own in `sys.modules`, where dataclasses and pickle look for it.

    Raises:
        ConfigError: it is not there, or its code fails.
    """
    path = file_of(entry, path)
    try:
        digest = hashlib.sha256(bytes(path) + b"\0" + path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise refused(entry, f"cannot be read: {told(error)}", "make it readable") from error
    name = f"aligntune_reward_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    loader = _FromSource(name, str(path))
    spec = cast("ModuleSpec", importlib.util.spec_from_loader(name, loader))  # None only for a loader of no source
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _failed(entry, error, str(path)) from error
    return module


def load_module(entry: str, name: str) -> ModuleType:
    """An installed module.

    Raises:
        ConfigError: it is not installed, or its code fails.
    """
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise no_module(entry, name) from error
        raise _failed(entry, error, None) from error


def no_module(entry: str, name: str) -> ConfigError:
    """The error for a module that is not installed; its remedy knows whether there is such a file."""
    file = Path(name.replace(".", "/") + ".py")
    here = file.exists()
    remedy = f"write {file}:{entry.rpartition(':')[2]}" if here else "install it, or write FILE.py:name"
    return refused(entry, f"there is no module '{name}'", remedy)


def _failed(entry: str, error: BaseException, home: str | None) -> ConfigError:
    """What is raised for an error at import."""
    remedy = "mend the file" if home else "mend the module"
    if isinstance(error, ModuleNotFoundError):
        remedy = "modules that it imports must be installed, or on PYTHONPATH"
    what = "tried to end the process" if isinstance(error, SystemExit) else "cannot be imported"
    text = told(error).removesuffix(": ")
    return refused(entry, f"{what}: {text}{line_of(error, home, elsewhere=home is None)}", remedy)


def no_attribute(entry: str, name: str, there: Iterable[str]) -> ConfigError:
    """The error for a name that a module does not have."""
    public = sorted(n for n in there if not n.startswith("_"))
    return refused(entry, f"has no '{name}'", did_you_mean(name, public, "it has"))


def find(entry: str) -> Any:
    """What an address names.

    Raises:
        ConfigError: no such file, module or name, or the code there fails when it is imported.
    """
    home, name = split(entry)
    module = load_file(entry, home) if isinstance(home, Path) else load_module(entry, home)
    try:
        return reduce(getattr, name.split("."), module)
    except AttributeError as error:
        own = (n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__)
        raise no_attribute(entry, name, own) from error


def look(entry: str) -> None:
    """Whether an address can be right, without running what is there.

    Raises:
        ConfigError: no such file or package; a file that is no Python, or defines no such name.
    """
    home, name = split(entry)
    if isinstance(home, Path):
        _look_into(entry, file_of(entry, home), name)
        return
    try:
        there = importlib.util.find_spec(home.partition(".")[0]) is not None
    except (ImportError, ValueError):
        there = False
    if not there:
        raise no_module(entry, home)


def _look_into(entry: str, path: Path, name: str) -> None:
    import ast

    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _failed(entry, error, str(path)) from error
    bound = {n.asname or n.name.partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.alias)}
    bound |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    bound |= {n.name for n in ast.walk(tree) if isinstance(n, defined)}  # within an if or a try, say
    if name.partition(".")[0] not in bound and "*" not in bound:
        raise no_attribute(entry, name, [n.name for n in tree.body if isinstance(n, defined)])
