"""Rewards that misbehave: each ends as one RewardError that names the reward, and the row where that can be known."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from aligntune_core.errors import RewardError
from aligntune_core.rewards.resolve import resolve

from .conftest import Score

GOOD = [0.0, 0.0, 0.0, 0.0]
BATCH = "in a batch of rows 17, 18, 19, 20"


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Slippery(list[float]):
    """A list that cannot be gone through."""

    def __iter__(self) -> Iterator[float]:
        raise OSError("no")


class Unfloatable(int):
    def __float__(self) -> float:
        raise ZeroDivisionError


def raising(error: BaseException) -> Callable[..., Any]:
    def batch(completions: list[str]) -> list[float]:
        raise error

    return batch


def raising_by_row(error: BaseException) -> Callable[..., Any]:
    def by_row(completion: str) -> float:
        if completion == "c":
            raise error
        return 0.0

    return by_row


def giving(result: Any) -> Callable[..., Any]:
    return lambda completions: result


def giving_by_row(result: Any) -> Callable[..., Any]:
    return lambda completion: result if completion == "c" else 0.0


def endless(completions: list[str]) -> Iterator[float]:
    while True:
        yield 0.0


def breaking(completions: list[str]) -> Iterator[float]:
    yield 0.0
    raise KeyError("half way")


async def exiting(completion: str) -> float:
    if completion == "c":
        sys.exit(0)
    await asyncio.sleep(30)
    return 0.0


async def cancelling(completion: str) -> float:
    if completion == "c":
        raise asyncio.CancelledError
    return 0.0


async def failing(completions: list[str]) -> list[float]:
    raise LookupError("judge is down")


def failing_at_times(completion: str) -> Any:
    return failing([completion]) if completion == "d" else 0.0


def raising_beside_coroutines(completion: str) -> Any:
    if completion == "c":
        raise LookupError("no judge")
    return failing([completion])  # never awaited, and no warning of that


async def streaming(completions: list[str]) -> AsyncIterator[float]:
    yield 0.0


def unknown_word(completions: list[str], missing: str) -> list[float]:
    return GOOD


def alarmed(completions: list[str]) -> list[float]:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return GOOD


class Case(NamedTuple):
    function: Callable[..., Any]
    where: str
    says: str
    cause: type[BaseException] | None = None


AT_ROW = "row 19"
CASES = {
    "raises": Case(raising(KeyError("answer")), BATCH, "it raised KeyError: 'answer' (test_misbehaving.py:", KeyError),
    "raises at a row": Case(raising_by_row(ValueError("no")), AT_ROW, "it raised ValueError: no (", ValueError),
    "calls sys.exit": Case(raising(SystemExit(0)), BATCH, "it tried to end the process: SystemExit: 0", SystemExit),
    "calls sys.exit at a row": Case(raising_by_row(SystemExit()), AT_ROW, "it tried to end the process", SystemExit),
    "calls sys.exit in a coroutine": Case(exiting, AT_ROW, "it tried to end the process", SystemExit),
    "raises KeyboardInterrupt": Case(raising(KeyboardInterrupt()), BATCH, "KeyboardInterrupt (", KeyboardInterrupt),
    "raises StopIteration": Case(raising_by_row(StopIteration()), AT_ROW, "StopIteration", StopIteration),
    "raises GeneratorExit": Case(raising(GeneratorExit()), BATCH, "GeneratorExit", GeneratorExit),
    "raises what cannot be shown": Case(raising(UnprintableError()), BATCH, "UnprintableError (", UnprintableError),
    "raises an error of ours": Case(raising(RewardError("mine")), BATCH, "RewardError: mine", RewardError),
    "recurses for ever": Case(raising(RecursionError("deep")), BATCH, "RecursionError", RecursionError),
    "cancels itself": Case(cancelling, AT_ROW, "CancelledError", asyncio.CancelledError),
    "fails as a coroutine": Case(failing, BATCH, "it raised LookupError: judge is down (", LookupError),
    "fails as a coroutine of a row": Case(failing_at_times, "row 20", "LookupError: judge is down", LookupError),
    "raises beside coroutines": Case(raising_beside_coroutines, AT_ROW, "LookupError: no judge", LookupError),
    "needs an argument that nobody gives": Case(unknown_word, BATCH, "missing 1 required", TypeError),
    "sets an alarm": Case(alarmed, BATCH, "signal only works in main thread", ValueError),
    "gives nothing": Case(giving(None), BATCH, "it gave nothing instead of a list of 4 numbers"),
    "gives one number": Case(giving(0.5), BATCH, "it gave a number instead of a list"),
    "gives an array without a dimension": Case(giving(np.array(0.5)), BATCH, "it gave a ndarray instead"),
    "gives a mapping": Case(giving(dict(enumerate(GOOD))), BATCH, "it gave a mapping instead of a list"),
    "gives text": Case(giving("0.50"), BATCH, "it gave text instead of a list"),
    "gives bytes": Case(giving(b"1234"), BATCH, "it gave a bytes instead of a list"),
    "gives a set": Case(giving({0.0, 1.0, 2.0, 3.0}), BATCH, "it gave a set instead of a list"),
    "gives too few": Case(giving([1.0]), BATCH, "it gave 1 values for 4 completions"),
    "gives too many": Case(giving([1.0] * 9), BATCH, "it gave more than 4 for 4 completions"),
    "gives an empty array": Case(giving(np.empty(0)), BATCH, "it gave 0 values for 4 completions"),
    "never ends giving": Case(endless, BATCH, "it gave more than 4 for 4 completions"),
    "breaks off while giving": Case(breaking, BATCH, "it raised KeyError: 'half way'", KeyError),
    "gives an asynchronous generator": Case(streaming, BATCH, "it gave a async_generator instead of a list"),
    "gives a list that cannot be read": Case(giving(Slippery(GOOD)), BATCH, "it raised OSError: no", OSError),
    "gives texts": Case(giving([0.0, 0.0, "1.0", 0.0]), AT_ROW, "it gave text instead of a number"),
    "gives lists": Case(giving([[0.0]] * 4), "row 17", "it gave a list instead of a number"),
    "gives a matrix": Case(giving(np.zeros((4, 1))), "row 17", "it gave a list instead of a number"),
    "gives complex numbers": Case(giving([0.0, 1j, 0.0, 0.0]), "row 18", "it gave a complex instead of a number"),
    "gives NaN": Case(giving([0.0, 0.0, math.nan, 0.0]), AT_ROW, "it gave nan"),
    "gives NaN in an array": Case(giving(np.array([0, 0, np.nan, 0], np.float32)), AT_ROW, "it gave nan"),
    "gives NaN at a row": Case(giving_by_row(math.nan), AT_ROW, "it gave nan"),
    "gives infinity": Case(giving([0.0, 0.0, 0.0, -math.inf]), "row 20", "it gave -inf"),
    "gives a number too large for any float": Case(giving_by_row(10**400), AT_ROW, "it gave inf"),
    "gives a number too large for 32 bits": Case(giving_by_row(1e39), AT_ROW, "too large for a 32-bit number"),
    "gives a mapping at a row": Case(giving_by_row({"score": 1.0}), AT_ROW, "it gave a mapping instead of a number"),
    "gives a number that is none": Case(giving_by_row(Unfloatable(1)), BATCH, "ZeroDivisionError", ZeroDivisionError),
    "gives a function": Case(giving_by_row(print), AT_ROW, "instead of a number"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_whatever_a_reward_does_is_one_reward_error(case: Case, score: Score) -> None:
    with pytest.raises(RewardError) as caught:
        score(case.function)
    error = caught.value
    assert str(error).startswith(f"reward = '{resolve([case.function])[0].name}': {case.where}: ")
    assert case.says in error.problem
    assert error.remedy
    assert error.exit_code == 4
    assert type(error.__cause__) is (case.cause or type(None))


async def sleeping(completions: list[str]) -> list[float]:
    await asyncio.sleep(60)
    return GOOD


async def sleeping_row(completion: str) -> float:
    await asyncio.sleep(60 if completion == "c" else 0)
    return 0.0


HANGS = {
    "a batch": (lambda completions: time.sleep(60), BATCH),
    "a row": (lambda completion: time.sleep(60 if completion == "c" else 0), AT_ROW),
    "a lock": (lambda completions: threading.Event().wait(), BATCH),
    "a coroutine": (sleeping, BATCH),
    "a coroutine of a row": (sleeping_row, BATCH),
}


@pytest.mark.parametrize("kind", HANGS)
def test_a_hang_ends_at_the_limit_with_the_row(kind: str, score: Score) -> None:
    function, where = HANGS[kind]
    began = time.monotonic()
    with pytest.raises(RewardError, match=rf"{where}: it took longer than 0\.5 s; raise reward_timeout"):
        score(function, timeout=0.5)
    assert 0.5 <= time.monotonic() - began < 3


def test_a_loop_in_python_ends_at_the_limit_too(score: Score) -> None:
    going = True

    def loop(completions: list[str]) -> list[float]:
        while going:
            pass
        return GOOD

    try:
        with pytest.raises(RewardError, match="longer than"):
            score(loop, timeout=0.5)
    finally:
        going = False


def test_after_a_hang_the_reward_can_be_called_again(score: Score) -> None:
    held = threading.Event()
    (reward,) = resolve([lambda completion: float(completion != "hang" or held.wait())])
    with pytest.raises(RewardError, match="longer than"):
        score(reward, ["hang"], timeout=0.2)
    assert score(reward, ["go"]) == [1.0]
    held.set()


def test_a_row_that_fails_ends_those_that_wait_beside_it(score: Score) -> None:
    ended: list[str] = []

    async def judged(completion: str) -> float:
        if completion == "d":
            raise ConnectionError
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(completion)
        return 0.0

    with pytest.raises(RewardError, match="row 20: it raised ConnectionError"):
        score(judged)
    assert ended == ["a", "b", "c"]


def test_without_row_numbers_the_place_in_the_batch_is_told() -> None:
    (reward,) = resolve([giving_by_row(math.nan)])
    with pytest.raises(RewardError, match="completion 3 of 4: it gave nan"):
        reward(list("abcd"), list("abcd"), columns={}, timeout=9)


def test_many_rows_are_told_in_short(score: Score) -> None:
    with pytest.raises(RewardError, match="in a batch of rows 17, 18, 19, 20 and 60 more: it gave nothing"):
        score(giving(None), ["x"] * 64)


def test_the_line_of_the_function_is_told_not_that_of_the_library_it_called(score: Score, tmp_path: Path) -> None:
    file = tmp_path / "judge.py"
    file.write_text("import json\n\ndef judge(completion):\n    return json.loads(completion)['score']\n", "utf-8")
    with pytest.raises(RewardError, match=r"JSONDecodeError: .* \(judge\.py:4\)"):
        score(f"{file}:judge", ["no json"])


def test_a_function_that_changes_what_it_is_given_changes_nobody_elses(score: Score) -> None:
    def spoiling(prompts: list[str], completions: list[Any], answer: list[Any], completion_ids: Any) -> list[float]:
        found = [float(len(completions)), float(len(completion_ids))]
        completions[0][0]["content"] = answer[0]["text"] = ""
        completion_ids[0].clear()
        completions.clear()
        answer.clear()
        return found

    completions = [[{"role": "assistant", "content": "one"}], [{"role": "assistant", "content": "two"}]]
    answer = [{"text": "1"}, {"text": "2"}]
    (reward,) = resolve([spoiling])
    for _ in range(2):
        assert score(reward, completions, answer=answer) == [2.0, 2.0]
    assert (completions[0][0]["content"], answer[0]["text"]) == ("one", "1")


def test_a_hint_is_given_to_those_who_limit_time_with_signals(score: Score) -> None:
    with pytest.raises(RewardError) as caught:
        score(alarmed)
    assert "use no signals" in caught.value.remedy


def test_a_signal_reaches_the_training_loop_while_a_reward_is_waited_for(score: Score) -> None:
    held = threading.Event()
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            score(lambda completions: held.wait(), timeout=30)
    finally:
        signal.signal(signal.SIGUSR1, before)
        held.set()


def test_a_rewards_thread_works_on_the_gpu_of_the_loop(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[tuple[int, int]] = []
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        current_device=lambda: 3,
        set_device=lambda device: chosen.append((device, threading.get_ident())),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))  # no machine of ours has four GPUs
    score(giving(GOOD))
    assert [device for device, _ in chosen] == [3]
    assert chosen[0][1] != threading.get_ident()
