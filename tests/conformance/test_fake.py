"""The fake backend keeps every promise: in what core knows, and in what it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from aligntune_core import AlgorithmSupport, Support, hookimpl
from aligntune_core.algorithms import Algorithm
from aligntune_core.config import SftConfig, setting
from aligntune_core.testing import BackendSuite, FakeBackend, FakeDistribution, Other, fake_entry

RANGE = FakeDistribution(requires=("aligntune>=0.1,<0.2",))


class TestFake(BackendSuite):
    backend = "fake"
    plugin = fake_entry("fake", FakeBackend(), RANGE)
    other_values: ClassVar = {"backend_options": {"size": 1}, "lora_target_modules": "query"}


class OddConfig(SftConfig):
    """The settings of an algorithm that core does not know."""

    algorithm = "odd"
    strength: float = setting(0.5, "How odd it is.")
    kind: Literal["even", "odd"] = setting("odd", "Which numbers.")
    names: str = setting("", "What is odd.")


class OddBackend(FakeBackend):
    """An algorithm of its own, and few settings."""

    @hookimpl
    def provides_algorithms(self) -> list[AlgorithmSupport]:
        about = Algorithm(name="odd", title="Odd", summary="It trains odd numbers.", paper="A. Author 2020")
        own = frozenset({"strength", "kind", "names", "max_steps", "model_name", "seed", "logging_steps", "lora_r"})
        (claim,) = super().provides_algorithms()
        return [replace(claim, algorithm="odd", about=about, config=OddConfig, settings=own)]


class TestOdd(BackendSuite):
    backend = "odd"
    plugin = fake_entry(
        "odd",
        OddBackend(
            cells={
                ("text_generation", "seq2seq"): Support("limited", "it is slow"),
                ("chat_completion", "causal_lm"): Support("no", "it cannot talk"),
            }
        ),
        RANGE,
    )
    other_values: ClassVar = {"names": "seven", "lora_r": Other(4)}
    settings: ClassVar = {"seed": 3, "max_steps": 5}
    left_out: ClassVar = {
        "test_a_setting_is_honoured_or_refused[odd-lora_r]": "core refuses it without use_peft, which is not claimed"
    }
