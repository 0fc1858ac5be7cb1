"""What a plugin cannot do to the process while it describes itself."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aligntune_core.errors import PluginContractError
from aligntune_core.plugins.guard import LIMIT, guarded, time_limit


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNTUNE_PLUGIN_TIMEOUT", "0.2")


def spin() -> None:
    while True:
        pass


def swallow_once() -> None:
    try:
        spin()
    except BaseException:  # noqa: BLE001
        spin()


@pytest.mark.parametrize("hang", [lambda: time.sleep(60), spin, threading.Event().wait, swallow_once])
def test_a_hang_ends_at_the_limit(short: None, hang: Callable[[], None]) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"it took longer than 0\.2 s"), guarded("x"):
        hang()
    assert time.monotonic() - began < 5


def test_no_except_exception_of_a_plugin_stops_the_alarm(short: None) -> None:
    with pytest.raises(TimeoutError), guarded("x"), contextlib.suppress(Exception):
        time.sleep(60)


def test_an_alarm_of_the_hosts_own_still_rings(short: None) -> None:
    rang: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rang.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with guarded("x"):
            time.sleep(0.05)
        time.sleep(0.5)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert rang == [signal.SIGALRM]


@pytest.mark.parametrize(("given", "seconds"), [("5", 5.0), ("x", LIMIT), ("0", LIMIT), ("nan", LIMIT), ("-1", LIMIT)])
def test_the_limit_is_a_number_of_seconds_or_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, given: str, seconds: float
) -> None:
    monkeypatch.setenv("ALIGNTUNE_PLUGIN_TIMEOUT", given)
    assert time_limit() == seconds


PRINTS = """
import os, subprocess, sys
from aligntune_core.plugins.guard import guarded
with guarded("x"):
    print("python")
    os.write(1, b"below\\n")
    subprocess.run([sys.executable, "-c", "print('child')"], check=True)
print("ours")
"""


def test_what_is_printed_goes_to_standard_error_from_below_python_too() -> None:
    done = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, check=True)
    assert done.stdout == "ours\n"
    assert sorted(done.stderr.split()) == ["below", "child", "python"]


def test_what_a_plugin_changes_is_put_back_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gone = sys.path[-1]
    before = (Path.cwd(), dict(os.environ), sys.stdout, sys.stderr, signal.getsignal(signal.SIGINT))
    with guarded("the plugin 'x'"):
        os.chdir(tmp_path)
        os.environ["ALIGNTUNE_SPOILT"] = "1"
        os.environ.pop("PATH")
        sys.stdout = sys.stderr = io.StringIO()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        logging.getLogger("aligntune").disabled = True
        sys.setrecursionlimit(300)
        sys.path.remove(gone)
    assert (Path.cwd(), dict(os.environ), sys.stdout, sys.stderr, signal.getsignal(signal.SIGINT)) == before
    assert gone in sys.path
    assert sys.getrecursionlimit() > 300
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [t.partition(" of this process")[0] for t in told] == [
        "the plugin 'x' changed logging",
        "the plugin 'x' changed the working directory",
        "the plugin 'x' changed environment variables",
        "the plugin 'x' changed signal handlers",
        "the plugin 'x' changed the limit of recursion",
        "the plugin 'x' changed the path of modules",
    ]


def test_a_plugin_that_asks_for_plugins_while_it_is_asked_is_told_so() -> None:
    again = pytest.raises(PluginContractError, match="it asked AlignTune for plugins while it was asked itself")
    with guarded("x"), again, guarded("y"):
        pass
    with guarded("x"):
        pass


def test_outside_the_main_thread_there_is_no_limit_and_no_error(short: None) -> None:
    ended: list[bool] = []

    def ask() -> None:
        with guarded("x"):
            time.sleep(0.4)
        ended.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert ended == [True]
