"""Fake backends that break one promise each, and the check that must tell."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aligntune_core import (
    AlgorithmSupport,
    Availability,
    BackendTrainer,
    Environment,
    OpenRequest,
    Sampling,
    Support,
    TrainRequest,
    hookimpl,
)
from aligntune_core.algorithms import Algorithm
from aligntune_core.config import SftConfig
from aligntune_core.config.settings import setting
from aligntune_core.testing import FakeBackend, FakeTrainer
from aligntune_core.testing.fake_backend import FakeModel, write_fake_model
from aligntune_core.values import Preview, RowPreview, RowTokens, RunEvents

CELLS = {("chat_completion", "causal_lm"): Support("full")}
GOOD = ("aligntune>=0.1,<0.2",)
CHANCE = (n * 0.618 % 1 for n in itertools.count(1))
"""What comes without a seed."""


class Bent(FakeBackend):
    """A fake backend with another trainer, other claims or another verdict."""

    def __init__(
        self,
        trainer: type[FakeTrainer] = FakeTrainer,
        *,
        claims: Callable[[AlgorithmSupport], AlgorithmSupport] = lambda claim: claim,
        verdict: Callable[[Environment], Any] = lambda environment: Availability(True),
        tiny: Callable[[str, Path], bool] = lambda model_type, path: write_fake_model(path, model_type),
        opened: type[FakeModel] = FakeModel,
        **given: Any,
    ) -> None:
        super().__init__(cells=CELLS, **given)
        self._trainer, self._claims, self._answer, self._tiny = trainer, claims, verdict, tiny
        self._opened = opened

    @hookimpl
    def provides_algorithms(self) -> list[AlgorithmSupport]:
        return [self._claims(claim) for claim in super().provides_algorithms()]

    @hookimpl
    def is_available(self, environment: Environment) -> Any:
        return self._answer(environment)

    @hookimpl
    def build_trainer(self, request: TrainRequest) -> BackendTrainer:
        return self._trainer(request, self._on_step, self._loss)

    @hookimpl
    def tiny_model(self, model_type: str, path: Path) -> bool:
        return self._tiny(model_type, path)

    @hookimpl
    def open_model(self, request: OpenRequest) -> FakeModel:
        return self._opened(request)


class Untrained(FakeModel):
    """A model that answers as if it had not been trained."""

    def predict(self, inputs: Sequence[Any], sampling: Sampling) -> list[Any]:
        return ["answer 0" for _ in inputs]


class ShowsAll(Bent):
    """What it shows without the model is another thing than what it trains."""

    @hookimpl
    def build_preview(self, request: TrainRequest) -> Preview:
        shown = RowPreview(parts={"row": RowTokens([1, 2], [1, 2])})
        return replace(super().build_preview(request), rows=lambda rows: [shown] * len(rows))


@dataclass(frozen=True)
class Mutant:
    """A broken backend: what its metadata requires, the check that fails for it, and words of the failure."""

    make: Callable[[], Any]
    check: str
    words: str
    requires: tuple[str, ...] = GOOD


def trainer(**methods: Any) -> type[FakeTrainer]:
    """A fake trainer with other methods; `methods` are called like the ones that they replace."""
    return type("Mutant", (FakeTrainer,), methods)


def before(method: str, act: Callable[[FakeTrainer], object]) -> type[FakeTrainer]:
    """A fake trainer that does something before a method."""

    def call(self: FakeTrainer, *args: Any, **kwargs: Any) -> Any:
        act(self)
        return getattr(FakeTrainer, method)(self, *args, **kwargs)

    return trainer(**{method: call})


# claims


def growing() -> Bent:
    count = itertools.count()
    return Bent(claims=lambda claim: replace(claim, preference=next(count)))


def without_build() -> Any:
    class WithoutBuild:
        provides_algorithms = FakeBackend.provides_algorithms
        is_available = FakeBackend.is_available

    return WithoutBuild()


class OddConfig(SftConfig):
    """The settings of an algorithm that core does not know."""

    algorithm = "odd"
    strength: float = setting(0.5, "How odd it is.")
    mute: int = 3


ODD = Algorithm(name="odd", title="Odd", summary="An odd one.", paper="A. Author 2020")


def own(cls: type[FakeTrainer] = FakeTrainer, **changes: Any) -> Bent:
    about = {"about": ODD, "config": OddConfig, "settings": frozenset(SftConfig.model_fields)}
    return Bent(cls, claims=lambda claim: replace(claim, algorithm="odd", **{**about, **changes}))


def tiny_with_time(model_type: str, path: Path) -> bool:
    write_fake_model(path, model_type)
    (path / "notes.txt").write_text(str(time.perf_counter_ns()), "utf-8")
    return True


# verdicts


def alternating() -> Bent:
    count = itertools.count()
    no = Availability(False, "not today", "try tomorrow")
    return Bent(verdict=lambda environment: no if next(count) % 2 else Availability(True))


def on_darwin(environment: Environment) -> Availability:
    if environment.platform == "darwin":
        raise NotImplementedError("no idea")
    return Availability(True)


def reads_versions(environment: Environment) -> Availability:
    """Garbage in the place of a version is an error here."""
    version = environment.packages.get("torch", "2.0").split(".")
    return Availability(int(version[0]) >= 0, "too old", "pip install -U torch")


def knows_memory(environment: Environment) -> Availability:
    """A GPU of which nothing is known is an error here."""
    memory = sum(device.memory for device in environment.gpus)  # type: ignore[misc]
    return Availability(memory >= 0, "too small", "buy more")


def slow(environment: Environment) -> Availability:
    time.sleep(0.003)
    return Availability(True)


# settings


def forgets(name: str) -> type[FakeTrainer]:
    """Its `resolved` is the same whatever the setting."""

    def start(self: FakeTrainer, *args: Any) -> None:
        FakeTrainer.__init__(self, *args)
        self.resolved = {key: value for key, value in self.resolved.items() if key != name}

    return trainer(__init__=start)


def told_the_time() -> type[FakeTrainer]:
    def start(self: FakeTrainer, *args: Any) -> None:
        FakeTrainer.__init__(self, *args)
        self.resolved = {**self.resolved, "began": time.perf_counter_ns()}

    return trainer(__init__=start)


def drops_last_batch(self: FakeTrainer) -> int:
    return len(self.request.train_rows) // self.request.config.batch_size


def saves_late(self: FakeTrainer, every: int) -> bool:
    return self.step % every == 0 and every != self.request.config.save_steps


def logs_always(self: FakeTrainer, every: int) -> bool:
    return every == self.request.config.logging_steps or self.step % every == 0


def evaluates_never(self: FakeTrainer, every: int) -> bool:
    return every != self.request.config.eval_steps and self.step % every == 0


# training


def gives_up(self: FakeTrainer, events: RunEvents) -> None:
    events.start(self.steps_planned)
    events.step(1)


def starts_twice(self: FakeTrainer, events: RunEvents) -> None:
    events.start(self.steps_planned)
    FakeTrainer.train(self, events)


def counts_from_two(self: FakeTrainer) -> float:
    self.step += self.step == 1
    return FakeTrainer.learn(self)


def evaluates_by_chance(self: FakeTrainer) -> Mapping[str, float]:
    return {"loss": next(CHANCE) / (1 + self.skill)}


def saves_rounded(self: FakeTrainer, path: Path) -> None:
    skill, self.skill = self.skill, round(self.skill)
    FakeTrainer.save(self, path)
    self.skill = skill


def saves_at_home(self: FakeTrainer, path: Path) -> None:
    FakeTrainer.save(self, self.request.work_dir.parent / "model")


def drops_one(self: FakeTrainer, inputs: Sequence[Any]) -> list[Any]:
    return ["answer"] * max(1, len(inputs) - 1)


def gives_numbers(self: FakeTrainer, inputs: Sequence[Any]) -> list[Any]:
    return [len(inputs)] * len(inputs) if len(inputs) > 1 else ["answer"]


def numbered(self: FakeTrainer, inputs: Sequence[Any]) -> list[Any]:
    return [str(number) for number in range(len(inputs))]


def guessed(self: FakeTrainer, inputs: Sequence[Any]) -> list[Any]:
    return [str(next(CHANCE)) for _ in inputs]


def leaves_a_file(self: FakeTrainer) -> None:
    Path("notes.txt").touch()


def moves_away(self: FakeTrainer) -> None:
    os.chdir(os.pardir)


def changes_the_model(self: FakeTrainer) -> None:
    (Path(str(self.request.config.model_name)) / "notes.txt").write_text(str(time.perf_counter_ns()), "utf-8")


def takes_ctrl_c(self: FakeTrainer) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: None)


def switches_plugins_off(self: FakeTrainer) -> None:
    os.environ["ALIGNTUNE_DISABLE_PLUGINS"] = "other"


def writes_at_once() -> type[FakeTrainer]:
    def start(self: FakeTrainer, *args: Any) -> None:
        FakeTrainer.__init__(self, *args)
        self.request.work_dir.mkdir(parents=True)
        (self.request.work_dir / "notes.txt").touch()

    return trainer(__init__=start)


# seeds and resuming


def unlucky(self: FakeTrainer) -> float:
    self.skill += 1
    return 0.0


def unseeded() -> type[FakeTrainer]:
    def start(self: FakeTrainer, *args: Any) -> None:
        FakeTrainer.__init__(self, *args)
        self._random.seed()

    return trainer(__init__=start)


class _Deaf:
    """Run events of a loop that is never told to stop."""

    stopping = False

    def __init__(self, events: RunEvents) -> None:
        self._events = events

    def __getattr__(self, name: str) -> Any:
        return getattr(self._events, name)


def trains_on(self: FakeTrainer, events: RunEvents) -> None:
    FakeTrainer.train(self, _Deaf(events))  # type: ignore[arg-type]


def stops_unsaved(self: FakeTrainer, events: RunEvents) -> None:
    if not events.stopping:
        FakeTrainer._checkpoint(self, events)


def starts_over(self: FakeTrainer, checkpoint: Path) -> None:
    """The weights are those of the checkpoint, the step is not."""
    FakeTrainer.restore(self, checkpoint)
    self.step = 0


def forgets_chance(self: FakeTrainer, checkpoint: Path) -> None:
    chance = self._random.getstate()
    FakeTrainer.restore(self, checkpoint)
    self._random.setstate(chance)


def forgets_weights(self: FakeTrainer, checkpoint: Path) -> None:
    skill = self.skill
    FakeTrainer.restore(self, checkpoint)
    self.skill = skill


def _claims(**changes: Any) -> Callable[[], Bent]:
    return lambda: Bent(claims=lambda claim: replace(claim, **changes))


def _verdict(verdict: Any) -> Callable[[], Bent]:
    return lambda: Bent(verdict=verdict if callable(verdict) else lambda environment: verdict)


def _trains(cls: type[FakeTrainer] | None = None, **methods: Any) -> Callable[[], Bent]:
    return lambda: Bent(cls or trainer(**methods))


KNOWN = frozenset(SftConfig.model_fields)
PLANNED, FINISHED = "test_it_trains_every_planned_step", "test_the_run_is_finished_and_has_its_model"
REQUIRES = "test_its_metadata_says_which_versions_of_aligntune_it_fits"
OWN, TINY = "test_an_algorithm_of_its_own_says_what_it_is", "test_a_tiny_model_is_of_its_type_and_the_same_at_each_call"
VERDICT, HELP = "test_every_machine_gets_a_verdict", "test_a_no_says_why_and_what_to_do"
HONOURED, RECURS = "test_a_setting_is_honoured_or_refused", "test_what_recurs_comes_at_its_steps"
REPEATS, ANSWERS = "test_an_evaluation_is_finite_and_repeats", "test_each_question_gets_its_answer"
OPENED = "test_an_opened_model_answers_as_its_trainer"
BELONGS, ELSE = "test_an_answer_belongs_to_its_question", "test_nothing_else_is_changed"
SAVED, ANYWHERE = "test_the_saved_model_is_the_trained_one", "test_save_model_writes_it_anywhere"
CLOSES = "test_a_trainer_that_never_trains_closes_and_leaves_nothing"
STOPS, RESUMES = "test_an_interrupted_run_saves_and_stops", "test_a_resumed_run_goes_on_as_if_nothing_had_happened"

MUTANTS: dict[str, Mutant] = {
    "a hook is missing": Mutant(without_build, "test_it_is_found_and_loads", "build_trainer() is missing"),
    "no requirement": Mutant(Bent, REQUIRES, "from a version on", requires=("torch",)),
    "any aligntune": Mutant(Bent, REQUIRES, "from a version on", requires=("aligntune",)),
    "every later aligntune": Mutant(Bent, REQUIRES, "below a version", requires=("aligntune>=0.1",)),
    "another claim each time": Mutant(growing, "test_it_describes_itself_alike_each_time", "at the second call: sft"),
    "claims nothing": Mutant(_claims(cells={}), "test_it_trains_something", "claims nothing"),
    "a setting that does not exist": Mutant(
        _claims(settings=KNOWN | {"learning_rat"}), "test_a_claim_names_settings_that_there_are", "learning_rat"
    ),
    "an algorithm without a text": Mutant(lambda: own(about=None), OWN, "the claim has no about"),
    "an algorithm without a source": Mutant(lambda: own(about=replace(ODD, paper=" ")), OWN, "has no paper"),
    "a setting without a description": Mutant(own, "test_a_setting_of_its_own_says_what_it_is", "mute"),
    "another tiny model each time": Mutant(lambda: Bent(tiny=tiny_with_time), TINY, "other bytes each time"),
    "a tiny model of another type": Mutant(
        lambda: Bent(tiny=lambda kind, path: write_fake_model(path, "seq2seq")), TINY, "of type causal_lm for seq2seq"
    ),
    "no tiny model": Mutant(lambda: Bent(tiny=lambda kind, path: False), TINY, "there is no tiny model"),
    # availability
    "raises on darwin": Mutant(_verdict(on_darwin), VERDICT, "NotImplementedError: no idea (Python 3.11 on darwin"),
    "raises for odd versions": Mutant(_verdict(reads_versions), VERDICT, "every package in version 'abc'"),
    "raises for an unknown GPU": Mutant(_verdict(knows_memory), VERDICT, "a GPU of which nothing is known"),
    "a verdict that is none": Mutant(_verdict(True), VERDICT, "gives no Availability"),
    "no remedy": Mutant(_verdict(Availability(False, "it is ill")), HELP, "the remedy is empty"),
    "a remedy of two lines": Mutant(_verdict(Availability(False, "ill", "rest\nsleep")), HELP, "not one line"),
    "a reason without an end": Mutant(_verdict(Availability(False, "ill" * 200, "rest")), HELP, "more than"),
    "changes its mind": Mutant(alternating, "test_a_machine_gets_the_same_verdict_each_time", "changes its mind"),
    "slow": Mutant(_verdict(slow), "test_a_verdict_is_quick", "ms on average"),
    "not here": Mutant(_verdict(Availability(False, "it is ill", "rest")), "test_it_can_run_here", "it is ill"),
    # settings
    "a setting is ignored": Mutant(_trains(forgets("seed")), f"{HONOURED}[sft-seed]", "sft-seed is claimed"),
    "a setting of its own is ignored": Mutant(
        lambda: own(forgets("strength"), settings=KNOWN | {"strength"}), f"{HONOURED}[odd-strength]", "and 1.0 changes"
    ),
    "resolved has the time": Mutant(
        lambda: Bent(told_the_time()), "test_the_same_settings_resolve_alike", "have another `resolved`"
    ),
    "drops the last batch": Mutant(
        _trains(steps_per_epoch=property(drops_last_batch)), "test_an_epoch_has_its_steps", "has 5 steps, expected 6"
    ),
    "logs at every step": Mutant(_trains(_is_due=logs_always), RECURS, "logging_steps = 2 in 6 steps"),
    "saves at the end only": Mutant(_trains(_is_due=saves_late), RECURS, "save_steps = 3 in 6 steps"),
    "evaluates never": Mutant(_trains(_is_due=evaluates_never), RECURS, "eval_steps = 4 in 6 steps"),
    # training
    "claims a task without rows": Mutant(
        _claims(algorithm="dpo", cells={("token_classification", "causal_lm"): Support("full")}),
        PLANNED,
        "has no rows for that task",
    ),
    "too few steps": Mutant(_trains(train=gives_up), PLANNED, "loop ended after step 1 of 10"),
    "starts twice": Mutant(_trains(train=starts_twice), PLANNED, "events.start was called with [(0, 10), (0, 10)]"),
    "skips a step": Mutant(_trains(learn=counts_from_two), PLANNED, "these came: [2, 3, 4"),
    "plans what it likes": Mutant(_trains(steps_planned=7), PLANNED, "max_steps is 10, and start() was given 7"),
    "a loss that is no number": Mutant(lambda: Bent(loss=lambda step: float("nan")), PLANNED, "DivergedError"),
    "no rows of metrics": Mutant(
        _trains(_report=lambda self, events, luck: None), "test_every_step_has_a_finite_loss", "without a finite loss"
    ),
    "learns nothing": Mutant(
        _trains(evaluate=lambda self: {"loss": 1.0}),
        "test_training_makes_it_better",
        "from eval_loss 1.0 to eval_loss 1.0",
    ),
    "an evaluation by chance": Mutant(_trains(evaluate=evaluates_by_chance), REPEATS, "a second evaluate() gives"),
    "an evaluation without a loss": Mutant(_trains(evaluate=lambda self: {"score": 1.0}), REPEATS, "['eval_score']"),
    "predict drops one": Mutant(_trains(predict=drops_one), ANSWERS, "2 answers for 3"),
    "predict gives no text": Mutant(_trains(predict=gives_numbers), ANSWERS, "of type int"),
    "predict answers the place": Mutant(_trains(predict=numbered), BELONGS, "asked in reverse"),
    "predict guesses": Mutant(_trains(predict=guessed), BELONGS, "asked again"),
    "save writes nothing": Mutant(_trains(save=lambda self, path: None), FINISHED, "save() wrote nothing"),
    "save writes no model": Mutant(
        _trains(save=lambda self, path: path.mkdir() or (path / "a.txt").touch()), FINISHED, "model/ holds ['a.txt']"
    ),
    "save loses something": Mutant(_trains(save=saves_rounded), SAVED, "loaded again, evaluates to"),
    "opened, it has learnt nothing": Mutant(lambda: Bent(opened=Untrained), OPENED, "opened, the model answers"),
    "save has one place": Mutant(_trains(save=saves_at_home), ANYWHERE, "save() wrote nothing"),
    "preview drops one": Mutant(
        _trains(preview=lambda self, rows: [1] * (len(rows) - 1)), "test_a_preview_has_each_row", "21 entries for 22"
    ),
    "preview alone differs": Mutant(
        lambda: ShowsAll(), "test_a_preview_without_the_model_is_the_trainers", "other tokens or labels"
    ),
    "close fails": Mutant(_trains(close=lambda self: 1 / 0), CLOSES, "ZeroDivisionError"),
    "writes before it trains": Mutant(lambda: Bent(writes_at_once()), CLOSES, "notes.txt"),
    "leaves a file": Mutant(lambda: Bent(before("learn", leaves_a_file)), ELSE, "train() changed files beside"),
    "moves away": Mutant(lambda: Bent(before("evaluate", moves_away)), ELSE, "changed the working directory"),
    "changes the model": Mutant(lambda: Bent(before("learn", changes_the_model)), ELSE, "changed the model or"),
    "takes a signal": Mutant(lambda: Bent(before("save", takes_ctrl_c)), ELSE, "changed the handlers of Ctrl-C"),
    "switches plugins off": Mutant(lambda: Bent(before("predict", switches_plugins_off)), ELSE, "ALIGNTUNE_DISABLE"),
    "prints": Mutant(lambda: Bent(before("learn", lambda self: print("hello"))), ELSE, "train() printed 'hello"),
    # seeds and resuming
    "the seed is ignored": Mutant(_trains(learn=unlucky), "test_another_seed_gives_other_losses", "the same losses"),
    "without a seed": Mutant(lambda: Bent(unseeded()), "test_the_same_seed_gives_the_same_losses", "same seed differ"),
    "does not stop": Mutant(_trains(train=trains_on), STOPS, "trained on"),
    "stops without a checkpoint": Mutant(_trains(_checkpoint=stops_unsaved), STOPS, "it has checkpoints of ()"),
    "resume starts over": Mutant(_trains(restore=starts_over), RESUMES, "after 4 came 1"),
    "resume forgets chance": Mutant(_trains(restore=forgets_chance), RESUMES, "the one without a break differ"),
    "resume forgets the weights": Mutant(_trains(restore=forgets_weights), RESUMES, "the final evaluation is"),
}  # fmt: skip
"""What is broken → the backend, and the check that must tell."""
