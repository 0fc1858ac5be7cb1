"""The thread in which a reward function runs, so that the training loop need not wait for it for ever.

A thread cannot be ended from outside: one that hangs is left behind, and the next call gets another. What never
lets go of the interpreter (C code that loops) is beyond this; the built-ins that could do so use a child process.
"""

from __future__ import annotations

import contextvars
import queue
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from aligntune_core.rewards.values import AtRow

if TYPE_CHECKING:
    import asyncio

_here = threading.local()
LAST_WORDS = 1.0
"""Seconds in which coroutines may clean up once another has failed."""


class Job:
    """A call, and what became of it: `result`, or `error`, whatever was raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = threading.Event()
        self._call, self._context, self._device = call, contextvars.copy_context(), _cuda_device()

    def do(self) -> None:
        try:
            if self._device is not None:
                sys.modules["torch"].cuda.set_device(self._device)
            self.result = self._context.run(self._call)
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt too: it is not ours to end
            self.error = error
        finally:
            self.done.set()


def _cuda_device() -> int | None:
    """The GPU of the calling thread: each thread has its own, and a new one begins with the first."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda.current_device() if torch is not None and torch.cuda.is_initialized() else None


def _work(jobs: queue.SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job.do()
        del job  # the batch need not live until the next
    if (loop := getattr(_here, "loop", None)) is not None:
        loop.close()


class Worker:
    """A daemon thread that is started when first needed, and does one job after the other."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def run(self, call: Callable[[], Any], seconds: float) -> Job:
        """Do the call there, and wait for it.

        Raises:
            TimeoutError: it has not ended after so many seconds.
        """
        if self._thread is None or not self._thread.is_alive():  # not alive: this process is a fork of the other's
            self._start()
        job = Job(call)
        self._jobs.put(job)
        if not job.done.wait(min(seconds, threading.TIMEOUT_MAX)):
            self._jobs.put(None)  # should it ever come back, it ends
            self._thread = None
            raise TimeoutError
        return job

    def _start(self) -> None:
        self._jobs = queue.SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(self._jobs,), name="aligntune reward", daemon=True)
        self._thread.start()
        weakref.finalize(self, self._jobs.put, None).atexit = False


def _loop() -> asyncio.AbstractEventLoop:
    """The thread's one event loop: a client that a function keeps between batches belongs to the loop it began in."""
    import asyncio  # 30 ms, and most rewards are plain functions

    if getattr(_here, "loop", None) is None:
        _here.loop = asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = _here.loop
    return loop


def awaited(waiting: Sequence[Awaitable[Any]], *, rows: bool) -> list[Any]:
    """The results of awaitables that run side by side. The first that fails ends the others.

    Raises:
        AtRow: one of them failed, and each is a row's.
        BaseException: it failed, and is the whole batch's.
    """
    import asyncio

    async def one(index: int, awaitable: Awaitable[Any]) -> Any:
        try:
            return await awaitable
        except BaseException as error:  # SystemExit would leave the loop at once, and its row be lost
            raise AtRow(index) from error

    async def everything() -> list[Any]:
        tasks = [asyncio.ensure_future(one(n, awaitable)) for n, awaitable in enumerate(waiting)]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=LAST_WORDS)

    try:
        return _loop().run_until_complete(everything())
    except AtRow as failed:
        if rows or failed.__cause__ is None:
            raise
        raise failed.__cause__ from None
