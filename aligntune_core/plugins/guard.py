"""What a plugin cannot do to this process while it describes itself: hang, print to our output, leave it changed.

It is no sandbox. A plugin is Python that runs here; one that ends the process by `os._exit`, or never gives the
interpreter back, is beyond it. `aligntune plugins` asks a child process, and so names that one too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from aligntune_core.errors import PluginContractError, blame
from aligntune_core.plugins.process_state import output_aside, unchanged

LIMIT = 30.0
"""Seconds that an import, or one question to a plugin, may take; ALIGNTUNE_PLUGIN_TIMEOUT sets another."""
PATIENCE = 3
"""Alarms that a plugin may swallow, one a second, before the process is ended in its name."""
POLL = 0.25
"""Seconds between two looks of the thread that is the last resort."""
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


def _end_process(who: str, error_output: int) -> None:
    """The last resort against a plugin that cannot be interrupted."""
    text = f"error: {who}: it does not end and cannot be interrupted; leave it out with ALIGNTUNE_DISABLE_PLUGINS\n"
    with contextlib.suppress(OSError):
        os.write(error_output, text.encode())
    os._exit(3)


def _copy_of_error_output() -> int:
    """A descriptor that no plugin knows; -1 where this process has no standard error."""
    try:
        return os.dup(2)
    except OSError:
        return -1


class _LastResort:
    """A thread that ends the process where the alarm is switched off or waits behind a library that never looks up.

    There is one for all questions, since to start one for each would cost more than most questions do.
    """

    def __init__(self) -> None:
        self._watched: tuple[str, float, int] | None = None
        self._asked = threading.Event()
        self._process = 0

    @contextlib.contextmanager
    def watching(self, who: str, seconds: float) -> Iterator[None]:
        """End the process in this plugin's name if the block takes longer."""
        if self._process != os.getpid():  # the first question, or a fork: threads stay behind
            self._process, self._asked = os.getpid(), threading.Event()
            threading.Thread(target=self._watch, args=(self._asked,), daemon=True).start()
        error_output = _copy_of_error_output()
        self._watched = (who, time.monotonic() + seconds, error_output)
        self._asked.set()
        try:
            yield
        finally:
            self._watched = None
            self._asked.clear()
            with contextlib.suppress(OSError):
                os.close(error_output)

    def _watch(self, asked: threading.Event) -> None:
        while asked.wait():
            time.sleep(POLL)
            watched = self._watched
            if watched is not None and time.monotonic() > watched[1]:
                _end_process(watched[0], watched[2])


_last_resort = _LastResort()


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
            _end_process(who, 2)
        raise _OutOfTimeError

    handler = signal.signal(signal.SIGALRM, ring)
    began, (left, interval) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        with _last_resort.watching(who, seconds + PATIENCE + 1):
            yield
    except _OutOfTimeError:
        raise TimeoutError(f"it took longer than {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # an alarm of the host's own goes on
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 1e-3), interval)


@contextlib.contextmanager
def _one_process() -> Iterator[None]:
    """A copy of this process that a plugin's fork leaves behind ends here; the original goes on."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(0)


def refuse_from_within() -> None:
    """Refuse a plugin that, while it is asked, asks AlignTune for plugins: it would be asked itself again.

    Raises:
        PluginContractError: this is called from within a plugin.
    """
    if who := getattr(_asking, "who", None):
        problem = f"it asked AlignTune for plugins while it was asked itself ({who})"
        raise PluginContractError(problem, "a plugin's hooks may not call AlignTune")


@contextlib.contextmanager
def guarded(who: str) -> Iterator[None]:
    """Around everything that a plugin does before a trainer is built.

    Args:
        who: the plugin and what it does, as warnings name it.

    Raises:
        TimeoutError: it took longer than the limit.
        PluginContractError: a plugin, while it is asked, asks AlignTune for plugins.
    """
    refuse_from_within()
    with _one_at_a_time:
        _asking.who = who
        try:
            with unchanged(who), _one_process(), _within_limit(who), output_aside():
                yield
        except KeyboardInterrupt as error:
            blame(error, who)
            raise
        finally:
            _asking.who = None
