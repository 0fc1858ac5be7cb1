"""What a training loop tells core is checked, and what a trainer gives back too; whose fault it was is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligntune import Trainer
from aligntune_core import PluginContractError, hookimpl
from aligntune_core.errors import blamed
from aligntune_core.testing import FakeBackend, FakeTrainer
from aligntune_core.values import RunEvents

Start = Callable[..., Trainer]
Say = Callable[[Any], object]


def begun(events: Any) -> Any:
    """A loop that has done its first step."""
    events.start(6)
    events.step(1)
    return events


WRONG: dict[str, tuple[Say, str]] = {
    "no steps": (lambda e: e.start(0), "start() takes the number of steps"),
    "steps as text": (lambda e: e.start("6"), "start() takes the number of steps"),
    "a step twice": (lambda e: (e.start(6), e.step(1), e.step(1)), "after 1 came 1"),
    "a step backwards": (lambda e: (e.start(6), e.step(3), e.step(2)), "after 3 came 2"),
    "a step too many": (lambda e: (e.start(6), e.step(7)), "after 0 came 7"),
    "a step that is none": (lambda e: (e.start(6), e.step(None)), "after 0 came None"),
    "a metric that is text": (lambda e: e.metrics(1, {"loss": "low"}, epoch=0.1), "'loss' is a str"),
    "a metric that is a truth": (lambda e: e.metrics(1, {"loss": True}, epoch=0.1), "'loss' is a bool"),
    "a split that there is not": (lambda e: e.metrics(1, {}, epoch=0.1, split="dev"), "train or eval"),
    "an epoch that is text": (lambda e: e.metrics(1, {}, epoch="1"), "a number as epoch"),
    "a checkpoint that is not there": (lambda e: begun(e).checkpoint(1, Path("run/.staging/x")), "in work_dir, not x"),
    "a checkpoint that is the user's": (lambda e: begun(e).checkpoint(1, Path.cwd()), "in work_dir, not cwd"),
    "a checkpoint of a step to come": (lambda e: begun(e).checkpoint(2, Path("x")), "a step that is done, not 2"),
    "a checkpoint of a step that is a path": (lambda e: begun(e).checkpoint("../x", Path("x")), "not '../x'"),
    "a checkpoint that is text": (lambda e: begun(e).checkpoint(1, "nowhere"), "takes a Path"),
    "fewer steps than asked for": (lambda e: e.start(3), "max_steps is 6, and start() was given 3"),
    "a metric that is called like a column": (lambda e: e.metrics(1, {"step": 1.0}, epoch=0.1), "'step'"),
    "an epoch that is no number": (lambda e: e.metrics(1, {}, epoch=float("nan")), "a number as epoch"),
    "a sample that is a list": (lambda e: e.sample(1, "question", ["answer"]), "sample() takes two texts"),
}


class Odd(FakeBackend):
    """Its trainer has other methods than the fake's."""

    def __init__(self, **methods: Callable[..., Any]) -> None:
        super().__init__()
        self._methods = methods

    @hookimpl
    def build_trainer(self, request: Any) -> Any:
        kind = type("OddTrainer", (FakeTrainer,), self._methods)
        return kind(request, lambda step: None, lambda step: 1.0)


@pytest.mark.parametrize("kind", WRONG)
def test_a_loop_that_says_something_wrong_is_stopped_and_blamed(start: Start, kind: str) -> None:
    say, problem = WRONG[kind]

    def train(self: FakeTrainer, events: RunEvents) -> None:
        say(events)

    with pytest.raises(TypeError) as caught:
        start(Odd(train=train)).train()
    assert problem in str(caught.value)
    assert blamed(caught.value) == "train() of the backend 'fake' (aligntune-fake 1.0)"


def test_a_loop_that_never_starts_is_not_finished(start: Start) -> None:
    with pytest.raises(PluginContractError, match="its training loop ended unstarted"):
        start(Odd(train=lambda self, events: None)).train()


def test_a_model_that_is_not_saved_ends_the_run(start: Start) -> None:
    with pytest.raises(PluginContractError, match=r"save\(\) wrote nothing"):
        start(Odd(save=lambda self, path: None)).train()
    assert '"status": "failed"' in Path("run/run.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("methods", "ask", "problem"),
    [
        ({"evaluate": lambda self: 7}, lambda t: t.evaluate(), r"evaluate\(\) gave int"),
        ({"evaluate": lambda self: {"loss": "low"}}, lambda t: t.evaluate(), r"'loss': str, which is no number"),
        ({"predict": lambda self, inputs: []}, lambda t: t.predict("Hi?"), r"predict\(\) gave 0 answers for 1 inputs"),
        ({"predict": lambda self, inputs: "Hi"}, lambda t: t.predict("Hi?"), r"predict\(\) gave str for 1 inputs"),
        ({"save": lambda self, path: None}, lambda t: t.save_model("elsewhere"), r"save\(\) wrote nothing"),
    ],
)
def test_what_a_trainer_gives_back_is_checked(
    start: Start, methods: dict[str, Any], ask: Callable[[Trainer], object], problem: str
) -> None:
    with pytest.raises(PluginContractError, match=problem) as caught:
        ask(start(Odd(**methods), eval_fraction=0.25))
    assert caught.value.value == "fake"
