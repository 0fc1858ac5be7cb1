"""All plugins, loaded in a child process: the report that survives whatever they do, and names who did it.

The child (`python -m aligntune_core.plugins.probe`) says in lines of JSON which plugin it is about to load and
what became of it. Where it dies or falls silent, the last one named is the culprit; another child does the rest.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from aligntune_core.discovery import BACKENDS, PLUGINS, Entry, entries
from aligntune_core.errors import LONGEST_NAME, one_line
from aligntune_core.plugins.backend import Backend
from aligntune_core.plugins.control import Control, admitted
from aligntune_core.plugins.extension import Extension, load_extensions
from aligntune_core.plugins.failure import Disabled, LoadFailure
from aligntune_core.plugins.guard import PATIENCE, time_limit
from aligntune_core.plugins.loading import Loaded
from aligntune_core.plugins.registry import load_backends, unreadable

Record = dict[str, Any]
START_UP = 30.0
"""Seconds that the child may take to begin."""


def _record(entry: Entry, status: str, **more: Any) -> Record:
    base = {
        "name": entry.name,
        "group": entry.group,
        "distribution": entry.distribution,
        "version": entry.version,
        "entry_point": entry.value,
        "requires": [one_line(text, 128) for text in entry.requires if text.lower().startswith("aligntune")],
        "status": status,
        "hooks": [],
        "error": None,
        "reason": "",
        "seconds": None,
    }
    return base | more


def _failed(failure: LoadFailure) -> Record:
    kind = one_line(type(failure.error).__name__, LONGEST_NAME)
    error = {"phase": failure.phase, "type": kind, "message": failure.message}
    return _record(failure.entry, "broken", error=error)


def _disabled(off: Disabled) -> Record:
    return _record(off.entry, "disabled", reason=off.reason)


def _key(entry: Entry) -> list[str]:
    return [entry.group, entry.name, entry.distribution]


def child(skip: list[list[str]]) -> Iterator[Record]:
    """What the child says: before each plugin `{"begin": key, …}`, then its record; records of the others."""
    control = Control.read()
    loaders: dict[str, Callable[[list[Entry]], Loaded[Backend] | Loaded[Extension]]] = {
        BACKENDS: lambda found: load_backends(found, control),
        PLUGINS: lambda found: load_extensions(found, control),
    }
    for group, load in loaders.items():
        found, broken = entries(group)
        passed, failures, disabled = admitted(found, control)
        yield from map(_failed, failures)
        yield from map(_disabled, disabled)
        if group == BACKENDS:
            yield from (_failed(unreadable(name, error)) for name, error in broken.items())
        for entry in passed:
            if _key(entry) in skip:
                continue
            yield {"begin": _key(entry), "record": _record(entry, "broken")}
            began = time.perf_counter()
            loaded = load([entry])
            if loaded.failures:
                yield _failed(loaded.failures[0])
            else:
                seconds = round(time.perf_counter() - began, 4)
                yield _record(entry, "ok", hooks=loaded.good[0].hooks, seconds=seconds)


def _lines(process: subprocess.Popen[str]) -> Callable[[float], str | None]:
    """Gives the child's next line within so many seconds; None where it ends or says nothing."""
    said: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            said.put(line)
        said.put(None)

    threading.Thread(target=read, daemon=True).start()

    def following(seconds: float) -> str | None:
        try:
            return said.get(timeout=seconds)
        except queue.Empty:
            return None

    return following


def _ended(process: subprocess.Popen[str], patience: float) -> str:
    """How a child that says no more came to its end."""
    try:
        code = process.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"it did not end within {patience:g} s and could not be interrupted"
    return f"it ended the process by {signal.Signals(-code).name}" if code < 0 else f"it ended the process with {code}"


def _parsed(line: str) -> Record | None:
    """A line of the child; None for what a plugin wrote there past the guard."""
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) and ("begin" in said or "status" in said) else None


def _ask(skip: list[list[str]]) -> tuple[list[Record], Record | None]:
    """One child's records, and the plugin in which it ended, with how."""
    command = [sys.executable, "-P", "-m", "aligntune_core.plugins.probe", json.dumps(skip)]
    patience = time_limit() + PATIENCE + 5.0
    records: list[Record] = []
    pending: Record | None = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        following = _lines(process)
        line = following(START_UP)
        while line is not None:
            said = _parsed(line)
            if said is not None and "begin" in said:
                pending = said
            elif said is not None:
                records.append(said)
                pending = None
            line = following(patience)
        how = _ended(process, patience)
    if pending is not None:
        error = {"phase": "loaded", "type": "ProcessEnded", "message": how}
        pending["record"] |= {"error": error}
    return records, pending


def ask_child() -> list[Record]:
    """Every installed plugin, as `aligntune plugins --json` prints it; none is imported in this process."""
    found: dict[tuple[str, ...], Record] = {}
    skip: list[list[str]] = []
    while True:
        records, culprit = _ask(skip)
        for record in records:
            key = ("group", "name", "distribution", "entry_point", "status")
            found.setdefault(tuple(record[name] for name in key), record)
        if culprit is None:
            break
        skip.append(culprit["begin"])
        found[(*culprit["begin"], "ended")] = culprit["record"]
    return sorted(found.values(), key=lambda r: (r["group"], r["name"], r["distribution"]))


def main(skip: str) -> NoReturn:
    """The child process: it says what it finds, and ends whatever a plugin left running."""
    with os.fdopen(os.dup(1), "w") as out:  # a plugin may close the other one
        try:
            for said in child(json.loads(skip)):
                out.write(json.dumps(said) + "\n")
                out.flush()
        except KeyboardInterrupt:
            os._exit(130)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
