"""Messages between two processes over a socket: mappings, one line of JSON each."""

from __future__ import annotations

import json
import socket
import threading
from numbers import Integral, Real
from pathlib import Path
from typing import Any

Message = dict[str, Any]


def _plain(value: object) -> Any:
    """What JSON has no word for: numbers of other libraries, and paths."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be sent to another process")


class Channel:
    """One end. Any thread may send; one at a time receives."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._incoming = end.makefile("rb")
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            TypeError: it holds something else than JSON can tell.
            OSError: the other end is gone.
        """
        line = json.dumps(message, default=_plain).encode() + b"\n"
        with self._sending:
            self._end.sendall(line)

    def receive(self) -> Message:
        """Wait for the next message.

        Raises:
            EOFError: the other end is gone.
        """
        try:
            line = self._incoming.readline()
        except OSError as error:
            raise EOFError from error
        if not line.endswith(b"\n"):
            raise EOFError
        message: Message = json.loads(line)
        return message

    def close(self) -> None:
        """Let the other end know that there will be no more."""
        self._incoming.close()
        self._end.close()
