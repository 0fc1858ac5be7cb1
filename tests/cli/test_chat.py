"""`chat` in a real terminal: what it prints, what it keeps from the terminal, and how it ends."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aligntune_core.testing.fake_backend import write_fake_model

CHAT = """
import fcntl, sys, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C comes from this terminal
from aligntune_core import hookimpl, installed
from aligntune_core.cli.main import run
from aligntune_core.testing import FakeBackend, fake_entry, make_registry
from aligntune_core.testing.fake_backend import FakeModel

class Talker(FakeModel):
    def stream(self, messages, sampling):
        if messages[-1]["content"] == "for ever":
            while True:
                yield "more "
                time.sleep(0.01)
        yield f" {len(messages)}: "
        yield "\\x1b[31mred\\x07"

class Talks(FakeBackend):
    @hookimpl
    def open_model(self, request):
        return Talker(request)

registry = make_registry(fake_entry("fake", Talks()))
installed.load_registry = lambda: registry
sys.exit(run(sys.argv[1:]))
"""


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-c", CHAT, *arguments]
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        environment = {**os.environ, "TERM": "dumb"}
        self._process = subprocess.Popen(command, **streams, start_new_session=True, env=environment)
        os.close(theirs)
        self.shown, self._read = "", 0

    def wait_for(self, text: str) -> None:
        """Read until a text has come after the last one that was waited for."""
        end = time.monotonic() + 60
        while (place := self.shown.find(text, self._read)) < 0:
            assert time.monotonic() < end, f"{text!r} did not come; there is {self.shown[self._read :]!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                self.shown += os.read(self._ours, 4096).decode(errors="replace")
        self._read = place + len(text)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode(errors="surrogateescape"))

    def ended(self) -> int:
        """The exit code."""
        end = time.monotonic() + 60
        while self._process.poll() is None:
            assert time.monotonic() < end, "it does not end"
            if select.select([self._ours], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):
                    self.shown += os.read(self._ours, 4096).decode()
        return self._process.returncode

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(fake_model: Path) -> Iterator[Callable[[], Terminal]]:
    """Give `terminal()`: a chat that waits for its first question."""
    opened: list[Terminal] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored, and inherited

    def start() -> Terminal:
        opened.append(found := Terminal("chat", str(fake_model)))
        found.wait_for("\r\n> ")
        return found

    yield start
    signal.signal(signal.SIGINT, before)
    for each in opened:
        each.close()


def test_a_conversation_grows_and_reset_begins_anew(terminal: Callable[[], Terminal]) -> None:
    chat = terminal()
    for line, shown in (("Why?", "\r\n1: "), ("How?", "\r\n3: "), ("/reset", "a new conversation"), ("So?", "\r\n1: ")):
        chat.type(line + "\n")
        chat.wait_for(shown)
        chat.wait_for("\r\n> ")
    chat.type("/what\n")
    chat.wait_for("there is no /what: /reset begins anew")
    chat.type("/quit\n")
    assert chat.ended() == 0


def test_the_terminal_is_given_no_escape_sequence(terminal: Callable[[], Terminal]) -> None:
    chat = terminal()
    chat.type("Why?\n")
    chat.wait_for(r"1: \u001b[31mred\u0007")
    assert "\x1b[31m" not in chat.shown
    assert "\x07" not in chat.shown


def test_a_line_that_is_no_text_is_not_asked_and_the_conversation_goes_on(terminal: Callable[[], Terminal]) -> None:
    chat = terminal()
    chat.type("a\udcffb\n")
    chat.wait_for("that line is no UTF-8 text, and was not asked")
    chat.type("Why?\n")
    chat.wait_for("\r\n1: ")


def test_ctrl_d_leaves_with_0_and_ctrl_c_with_130(terminal: Callable[[], Terminal]) -> None:
    first, second = terminal(), terminal()
    first.type("\x04")
    assert first.ended() == 0
    second.type("\x03")
    assert second.ended() == 130
    assert "Traceback" not in first.shown + second.shown


def test_ctrl_c_ends_an_answer_and_the_conversation_goes_on(terminal: Callable[[], Terminal]) -> None:
    chat = terminal()
    chat.type("for ever\n")
    chat.wait_for("more more more")
    chat.type("\x03")
    chat.wait_for("\r\n> ")
    chat.type("Why?\n")
    chat.wait_for("3: ")


def test_a_model_that_labels_or_scores_is_refused_with_the_command_that_asks_it(tmp_path: Path) -> None:
    write_fake_model(tmp_path / "scores", "classification")
    chat = Terminal("chat", str(tmp_path / "scores"))
    chat.wait_for("it gives labels or scores, and holds no conversation; use 'aligntune generate'")
    assert chat.ended() == 2
    chat.close()
