"""Ctrl-C and SIGTERM while training: the first asks the loop to save and stop, the second stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_signals(ask: Callable[[int], None]) -> Iterator[None]:
    """Call `ask(number)` on the first signal and give the second back to Python. Only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING}

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        give_back()
        ask(number)

    for number in STOPPING:
        signal.signal(number, handle)
    try:
        yield
    finally:
        give_back()
