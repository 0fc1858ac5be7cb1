"""The state of this process that a plugin's description must leave as it was: it is put back, and the plugin named."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

log = logging.getLogger("aligntune")

left_running: list[threading.Thread] = []
"""Threads that plugins started while they described themselves; the command line does not wait for them."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _cwd() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - a folder that was deleted is None here
    except OSError:
        return None


def _restore_environment(before: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


def _restore_signals(before: tuple[Any, ...]) -> None:
    handlers, mask = before
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _signals() -> tuple[Any, ...]:
    return tuple(map(signal.getsignal, _SIGNALS)), signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _restore_path(before: list[str]) -> None:
    sys.path[:] = [*(folder for folder in before if folder not in sys.path), *sys.path]


def _logging() -> tuple[Any, ...]:
    root = logging.root
    return log.manager.disable, log.disabled, log.level, list(log.handlers), log.propagate, list(root.handlers)


def _restore_logging(before: tuple[Any, ...]) -> None:
    log.manager.disable, log.disabled, log.level, log.handlers, log.propagate, logging.root.handlers = before


_STATE: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "logging": (_logging, _restore_logging),
    "the working directory": (_cwd, lambda before: os.chdir(before) if before else None),
    "environment variables": (lambda: dict(os.environ), _restore_environment),
    "signal handlers": (_signals, _restore_signals),
    "the limit of recursion": (sys.getrecursionlimit, sys.setrecursionlimit),
    "the trace function": (sys.gettrace, sys.settrace),
}
"""What is put back after each question, where a plugin changed it: how it is read, and how it is restored."""


def _shortened(path: list[str]) -> bool:
    return not set(path) <= set(sys.path)  # a plugin may add folders, and take none away


@contextlib.contextmanager
def unchanged(who: str) -> Iterator[None]:
    """Put back what a plugin changes, and warn of it.

    Args:
        who: the plugin and what it does, as the warning names it.
    """
    before = {what: read() for what, (read, _) in _STATE.items()}
    path, threads = list(sys.path), set(threading.enumerate())
    changed = []
    try:
        yield
    finally:
        for what, (read, restore) in _STATE.items():
            if read() != before[what]:
                restore(before[what])
                changed.append(what)
        if _shortened(path):
            _restore_path(path)
            changed.append("the path of modules")
        for what in changed:
            log.warning("%s changed %s of this process; it is put back", who, what)
        if left := [t for t in set(threading.enumerate()) - threads if not t.daemon]:
            left_running.extend(left)
            log.warning("%s left a thread running, for which the process would wait at its end", who)


_STREAMS = ("stdout", "stderr", "__stdout__", "__stderr__")


def _error_output() -> TextIO:
    """Standard error, for a plugin: it may close it, or keep it and write to it for ever. Nowhere, if there is none."""
    try:
        raw = io.FileIO(2, "w", closefd=False)
    except OSError:
        return io.StringIO()
    return io.TextIOWrapper(raw, encoding="utf-8", errors="replace", write_through=True)


def _reopened(descriptor: int, saved: int) -> None:
    os.dup2(saved, descriptor)
    os.close(saved)


@contextlib.contextmanager
def output_aside() -> Iterator[None]:
    """What is printed, by Python or below it, goes to standard error: standard output belongs to our results.

    A plugin gets streams of its own, so that it may close them.
    """
    saved: dict[int, int] = {}
    before = {name: getattr(sys, name) for name in _STREAMS}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        os.dup2(2, 1)
    aside = _error_output()
    for name in _STREAMS:
        setattr(sys, name, aside)
    try:
        yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)
        for descriptor, copy in saved.items():
            _reopened(descriptor, copy)
