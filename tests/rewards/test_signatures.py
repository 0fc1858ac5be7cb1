"""How a function is called: by the batch or by the row, sync or async, with what it asks for and no more."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from aligntune_core.errors import ConfigError
from aligntune_core.rewards.bound import missing_columns
from aligntune_core.rewards.resolve import check_columns, resolve

from .conftest import Score


def everything(**given: Any) -> list[float]:
    return [float(set(given) == {"prompts", "completions", "completion_ids", "answer"}) for _ in given["prompts"]]


def batch(prompts: list[str], completions: list[str], completion_ids: list[list[int]], answer: list[str]) -> list[bool]:
    assert (prompts, completion_ids) == (["question 0", "question 1"], [[52], [53]])
    return [text == right for text, right in zip(completions, answer, strict=True)]


def without_kwargs(completions: list[str]) -> list[int]:
    return [int(text) for text in completions]


def by_row(completion: str, answer: str) -> bool:
    return completion == answer


def row_with_all(prompt: str, completion: str, completion_ids: list[int], **columns: Any) -> float:
    return float((prompt[:8], completion_ids, columns) == ("question", [ord(completion)], {"answer": "4"}))


async def async_batch(completions: list[str], **columns: Any) -> list[float]:
    await asyncio.sleep(0)
    return [float(text) for text in completions]


async def async_row(completion: str) -> float:
    await asyncio.sleep(0)
    return float(completion)


def optional(completion: str, answer: str, strictness: int = 7) -> float:
    return float(strictness)


class Judge:
    """An object that can be called, with a method that can be too."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def __call__(self, completion: str) -> float:
        return float(completion) + self.offset

    def score(self, completions: list[str]) -> list[float]:
        return [float(text) + self.offset for text in completions]


class AsyncJudge:
    async def __call__(self, completion: str) -> float:
        return float(completion)


def traced(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


FORMS: dict[str, tuple[Any, list[float | None]]] = {
    "all by **kwargs": (everything, [1, 1]),
    "TRL's batch signature": (batch, [1, 0]),
    "no **kwargs": (without_kwargs, [4, 5]),
    "one row": (by_row, [1, 0]),
    "one row with everything": (row_with_all, [1, 1]),
    "an async batch": (async_batch, [4, 5]),
    "an async row": (async_row, [4, 5]),
    "a default that is no column": (optional, [7, 7]),
    "an object": (Judge(1), [5, 6]),
    "an async object": (AsyncJudge(), [4, 5]),
    "a method": (Judge(1).score, [5, 6]),
    "a lambda": (lambda completion: 1, [1, 1]),
    "a partial": (functools.partial(by_row, answer="5"), [0, 1]),
    "a partial of an async function": (functools.partial(async_row), [4, 5]),
    "a lambda that gives a coroutine": (lambda completion: async_row(completion), [4, 5]),
    "a decorated function": (traced(by_row), [1, 0]),
    "a generator": (lambda completions: (float(text) for text in completions), [4, 5]),
    "a map": (lambda completions: map(float, completions), [4, 5]),
    "a tuple": (lambda completions: (1, None), [1, None]),
    "an array": (lambda completions: np.array([1, 2], np.int64), [1, 2]),
    "scalars of arrays": (lambda completion: np.float32(0.5), [0.5, 0.5]),
    "truth values of arrays": (lambda completion: np.bool_(True), [1, 1]),
    "fractions": (lambda completion: Fraction(1, 2), [0.5, 0.5]),
    "not applicable": (lambda completion: None, [None, None]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_function_of_this_form_scores(form: str, score: Score) -> None:
    function, expected = FORMS[form]
    found = score(function, ["4", "5"], answer=["4", "4"])
    assert found == expected
    assert all(value is None or type(value) is float for value in found)


def test_a_torch_tensor_is_a_list_of_numbers(score: Score) -> None:
    torch = pytest.importorskip("torch")
    assert score(lambda completions: torch.tensor([1, 0.5], dtype=torch.bfloat16), ["a", "b"]) == [1.0, 0.5]
    assert score(lambda completion: torch.tensor(2), ["a", "b"]) == [2.0, 2.0]


def test_the_row_number_is_never_passed_on(score: Score) -> None:
    seen: list[str] = []

    def curious(completion: str, **columns: Any) -> float:
        seen.extend(columns)
        return 0.0

    score(curious, ["a"], level=[1])
    assert sorted(seen) == ["completion_ids", "level", "prompt"]


def test_what_a_trainer_offers_beside_is_given_to_those_who_name_it() -> None:
    logged: list[tuple[str, float]] = []

    def reward(completions: list[str], trainer_state: Any, log_metric: Any) -> list[float]:
        log_metric("seen", 1.0)
        return [float(trainer_state)] * len(completions)

    extra = {"trainer_state": 5, "log_metric": lambda *what: logged.append(what), "log_extra": None}
    assert resolve([reward])[0](["p"], ["c"], columns={}, timeout=9, extra=extra) == [5.0]
    assert logged == [("seen", 1.0)]


def test_async_rows_run_side_by_side(score: Score) -> None:
    together = 0

    async def meeting(completion: str) -> float:
        nonlocal together
        together += 1
        while together < 64:
            await asyncio.sleep(0.001)
        return 1.0

    assert score(meeting, ["x"] * 64, timeout=20) == [1.0] * 64


def test_async_batches_share_one_event_loop(score: Score) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def judged(completions: list[str]) -> list[float]:
        loops.append(asyncio.get_running_loop())
        return [0.0] * len(completions)

    (reward,) = resolve([judged])
    score(reward)
    score(reward)
    assert loops[0] is loops[1]


def test_a_sync_function_may_run_an_event_loop_of_its_own(score: Score) -> None:
    assert score(lambda completion: asyncio.run(async_row(completion)), ["4"]) == [4.0]


def test_batches_are_scored_in_one_thread_that_sees_the_callers_context(score: Score) -> None:
    level = contextvars.ContextVar("level", default=0.0)
    threads: list[int] = []

    def reward(completion: str) -> float:
        threads.append(threading.get_ident())
        return level.get()

    (bound,) = resolve([reward])
    level.set(3.0)
    assert score(bound, ["a"]) + score(bound, ["b"]) == [3.0, 3.0]
    assert len(set(threads)) == 1


def test_no_completions_no_call() -> None:
    (reward,) = resolve([lambda completions: 1 / 0])
    assert reward([], [], columns={}, timeout=1) == []


def test_a_column_does_not_undo_what_a_partial_has_bound(score: Score) -> None:
    assert score(functools.partial(by_row, answer="5"), ["5"], answer=["4"]) == [1.0]
    bound = functools.partial(lambda completion, **rest: float(rest["answer"]), answer="5")
    assert score(bound, ["5"], answer=["4"]) == [5.0]


def test_a_column_is_passed_to_a_parameter_with_a_default(score: Score) -> None:
    assert score(optional, ["5"], answer=["4"], strictness=[9]) == [9.0]


BAD: dict[str, tuple[Any, str]] = {
    "neither": (lambda text: 0.0, "takes neither completions nor completion; write f(prompts, completions, **columns)"),
    "no parameter": (lambda: [0.0], "takes neither"),
    "only *args": (lambda *args: [], "takes neither"),
    "both": (lambda completion, completions: 0.0, "takes completion and completions"),
    "a class": (Judge, "is a class; give an object of it"),
    "a built-in": (len, "takes neither"),
    "a function without a signature": (max, "has no signature that can be read"),
    "a parameter without a name": (lambda prompts, /, completions: [], "cannot be given by name"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_function_that_cannot_be_called_is_refused_with_both_signatures(kind: str) -> None:
    function, says = BAD[kind]
    with pytest.raises(ConfigError) as caught:
        resolve([function])
    assert caught.value.field == "reward_functions"
    assert says in str(caught.value)
    assert kind == "a class" or ("f(prompts, completions" in str(caught.value) and "f(prompt, c" in str(caught.value))


def test_a_model_is_refused_with_the_setting_for_it() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ConfigError, match="is a model; name it in reward_model_name"):
        resolve([torch.nn.Linear(1, 1)])


def test_columns_that_are_missing_are_told_with_those_that_there_are() -> None:
    rewards = resolve([by_row, optional, everything, "exact_match", {"name": "numeric_match", "column": "solution"}])
    assert [missing_columns(reward, ["answer"]) for reward in rewards] == [[], [], [], [], ["solution"]]
    with pytest.raises(ConfigError) as caught:
        check_columns(rewards[:4], ["final", "level", "aligntune_row"])
    assert [problem.value for problem in caught.value.problems] == ["'by_row'", "'optional'", "'exact_match'"]
    assert str(caught.value).splitlines()[0] == (
        "reward_functions = 'by_row': needs a column 'answer' in the rows; "
        "the further columns are: final, level; map one with column_mapping: answer=…"
    )
    check_columns(rewards[:4], ["answer"])
