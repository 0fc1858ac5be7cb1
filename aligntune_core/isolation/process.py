"""The worker, as its parent sees it: started by exec, asked over a socket, heard, and ended."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO, cast

from aligntune_core.environment import AT_START
from aligntune_core.errors import WorkerDiedError, one_line
from aligntune_core.isolation.carried import unpacked
from aligntune_core.isolation.channel import Channel, Message
from aligntune_core.values import Isolation

KEPT = 200
"""Lines of what the worker printed that are kept until there is a file for them."""
LAST_SECONDS = 10.0
"""How long a worker may take to end by itself."""
_NOW = (
    *("ALIGNTUNE_", "CUDA_VISIBLE_DEVICES", "HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT"),
    *("WANDB_", "MLFLOW_", "COMET_", "NEPTUNE_", "SWANLAB_", "CLEARML_"),
)
"""How variables begin that a worker gets as they are now, for they are the user's, who sets them in a notebook after
the imports; all others as they were at the start, for libraries change those."""

Answer = Callable[[Message], Message]


def environ_now() -> dict[str, str]:
    """The variables that a worker gets: a library that was imported since may have changed those of this process."""
    now = {name: value for name, value in os.environ.items() if name.startswith(_NOW)}
    return {name: value for name, value in AT_START.items() if not name.startswith(_NOW)} | now


class Output:
    """What the worker prints, its libraries' banners too: kept, and written to a file once there is one."""

    def __init__(self, stream: TextIO) -> None:
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._file: Path | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, args=(stream,), name="aligntune worker output", daemon=True)
        self._thread.start()

    def _read(self, stream: TextIO) -> None:
        with stream:
            for line in stream:
                with self._lock, contextlib.suppress(OSError):
                    self._lines.append(line)
                    self._write(line)

    def into(self, path: Path) -> None:
        """From now on, and with what was printed before, write to this file."""
        with self._lock, contextlib.suppress(OSError):
            self._file = path
            self._write("".join(self._lines))

    def _write(self, text: str) -> None:
        """Libraries print little: the file is opened for each line, and there is none without any."""
        if self._file is not None and text:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(text)

    def end(self) -> None:
        """Wait for the last line of a worker that has ended."""
        self._thread.join(timeout=1.0)

    def last_words(self) -> str:
        """The last line that says something."""
        self.end()
        with self._lock:
            return next((text for line in reversed(self._lines) if (text := one_line(line, 200))), "")


class Worker:
    """A fresh Python process for one backend.

    Args:
        backend: the backend's name.
        isolation: which modules it imports at once, and which variables it gets beside ours.
    """

    def __init__(self, backend: str, isolation: Isolation) -> None:
        self.backend = backend
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "aligntune_core.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environ_now() | dict(isolation.environ),
                pass_fds=(theirs.fileno(),),
                process_group=0,  # the terminal's Ctrl-C is ours to pass on
            )
        self._channel = Channel(ours)
        self.output = Output(cast("TextIO", self._process.stdout))
        self._send({"backend": backend, "path": sys.path, "preload": list(isolation.preload)})

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, call: str, answer: Answer | None = None, **arguments: Any) -> Any:
        """Let the worker do something, and wait for it.

        Args:
            call: a method of `aligntune_core.worker.Served`.
            answer: what it tells meanwhile → our answer to that.
            **arguments: as JSON can tell them.

        Raises:
            WorkerDiedError: it ended without an answer.
            BaseException: what was raised there.
        """
        self._send({"call": call, "arguments": arguments})
        try:
            while True:
                said = self._receive()
                if "log" in said:
                    _log_again(said["log"])
                elif "told" in said and answer is not None:
                    self._send(answer(said))
                elif "failed" in said:
                    raise unpacked(said["failed"])
                else:
                    return said["done"]
        except (KeyboardInterrupt, SystemExit):
            self.kill()
            raise

    def _send(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except OSError as error:
            raise self._died() from error

    def _receive(self) -> Message:
        try:
            return self._channel.receive()
        except (EOFError, ValueError) as error:
            raise self._died() from error

    def _died(self) -> WorkerDiedError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=LAST_SECONDS)
        code = self._process.poll()
        how = "fell silent" if code is None else f"ended by itself with {code}"
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        last = self.output.last_words()
        said = f"; its last words: {last}" if last else ""
        out_of_memory = code == -signal.SIGKILL
        remedy = "it may have been out of memory: lower batch_size or max_seq_length, then " if out_of_memory else ""
        problem = f"the worker of the backend '{self.backend}' {how}{said}"
        return WorkerDiedError(problem, f"{remedy}go on with resume: true from the last checkpoint")

    def kill(self) -> None:
        """End it at once."""
        if self._process.poll() is None:  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._channel.close()
        self.output.end()

    def close(self) -> None:
        """Let it end; one that does not is ended."""
        self._channel.close()
        try:
            self._process.wait(timeout=LAST_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.output.end()


def _log_again(record: Mapping[str, Any]) -> None:
    """What was logged in the worker, as if it had been here."""
    logger = logging.getLogger(record["name"])
    if logger.isEnabledFor(record["level"]):
        logger.handle(logger.makeRecord(record["name"], record["level"], "", 0, record["text"], (), None))
