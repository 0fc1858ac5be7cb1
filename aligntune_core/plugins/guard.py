"""What a plugin cannot do to this process while it describes itself: print to our output, hang, leave it changed.

It is no sandbox. A plugin is Python that runs here; one that ends the process by `os._exit`, or never gives the
interpreter back, is beyond it. `aligntune plugins` asks a child process, and so names that one too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from aligntune_core.errors import PluginContractError

log = logging.getLogger("aligntune")

LIMIT = 30.0
"""Seconds that an import, or one question to a plugin, may take; ALIGNTUNE_PLUGIN_TIMEOUT sets another."""
PATIENCE = 3
"""Alarms that a plugin may swallow, one a second, before the process is ended in its name."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asking = threading.local()
_one_at_a_time = threading.RLock()


class _OutOfTimeError(BaseException):
    """Ends what takes too long; no `except Exception` of a plugin stops it."""


def time_limit() -> float:
    """The limit in seconds."""
    try:
        seconds = float(os.environ.get("ALIGNTUNE_PLUGIN_TIMEOUT", LIMIT))
    except ValueError:
        return LIMIT
    return seconds if 0 < seconds < 86_400 else LIMIT


def _end_process(who: str) -> None:
    """The last resort against a plugin that cannot be interrupted."""
    text = f"error: {who}: it does not end and cannot be interrupted; leave it out with ALIGNTUNE_DISABLE_PLUGINS\n"
    os.write(2, text.encode())
    os._exit(3)


@contextlib.contextmanager
def _within_limit(who: str) -> Iterator[None]:
    """Interrupt what takes longer than the limit. Alarms reach the main thread only; elsewhere there is no limit.

    Raises:
        TimeoutError: it took longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seconds, swallowed = time_limit(), 0

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal swallowed
        swallowed += 1
        if swallowed > PATIENCE:
            _end_process(who)
        raise _OutOfTimeError

    handler = signal.signal(signal.SIGALRM, ring)
    began, (left, interval) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    except _OutOfTimeError:
        raise TimeoutError(f"it took longer than {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # an alarm of the host's own goes on
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 1e-3), interval)


@contextlib.contextmanager
def _output_aside() -> Iterator[None]:
    """What is printed, by Python or below it, goes to standard error: standard output belongs to our results."""
    saved = -1
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        saved = os.dup(1)
        os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if saved >= 0:
            os.dup2(saved, 1)
            os.close(saved)


def _cwd() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - a folder that was deleted is None here
    except OSError:
        return None


def _restore_environment(before: dict[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


def _restore_signals(before: tuple[Any, ...]) -> None:
    for number, handler in zip(_SIGNALS, before, strict=True):
        signal.signal(number, handler)


_STATE: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "the working directory": (_cwd, lambda before: os.chdir(before) if before else None),
    "environment variables": (lambda: dict(os.environ), _restore_environment),
    "sys.stderr": (lambda: sys.stderr, lambda before: setattr(sys, "stderr", before)),
    "signal handlers": (lambda: tuple(map(signal.getsignal, _SIGNALS)), _restore_signals),
}
"""What is put back after each question, where a plugin changed it: how it is read, and how it is restored."""


@contextlib.contextmanager
def _unchanged(who: str) -> Iterator[None]:
    before = {what: read() for what, (read, _) in _STATE.items()}
    try:
        yield
    finally:
        for what, (read, restore) in _STATE.items():
            if read() != before[what]:
                restore(before[what])
                log.warning("%s changed %s of this process; they are put back", who, what)


@contextlib.contextmanager
def guarded(who: str) -> Iterator[None]:
    """Around everything that a plugin does before a trainer is built.

    Args:
        who: the plugin and what it does, as warnings name it.

    Raises:
        TimeoutError: it took longer than the limit.
        PluginContractError: a plugin, while it is asked, asks AlignTune for plugins.
    """
    if getattr(_asking, "who", None):
        problem = f"it asked AlignTune for plugins while it was asked itself ({_asking.who})"
        raise PluginContractError(problem, "a plugin's hooks may not call AlignTune")
    with _one_at_a_time:
        _asking.who = who
        try:
            with _unchanged(who), _within_limit(who), _output_aside():
                yield
        finally:
            _asking.who = None
