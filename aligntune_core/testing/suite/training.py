"""Every claimed cell trains, learns, answers, is saved, and leaves everything else alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.algorithms import ALGORITHMS
from aligntune_core.errors import AlignTuneError, UnsupportedAlgorithmError
from aligntune_core.factory import get_trainer
from aligntune_core.testing.suite.base import Cell, SuiteBase
from aligntune_core.testing.suite.checking import check, listed
from aligntune_core.testing.suite.runs import Bench, bench_of, preview
from aligntune_core.values import MODEL_TYPES, TASKS


class CellChecks(SuiteBase):
    """What the checks of a cell share."""

    def bench(self, cell: Cell, make_folder: pytest.TempPathFactory) -> Bench:
        """The cell's runs, shared by its checks; skipped where the backend cannot run."""
        if not (verdict := self.verdict_here()).ok:
            pytest.skip(f"see test_it_can_run_here: {verdict.reason}")
        return bench_of(self, cell, lambda: make_folder.mktemp("cell"))

    def same(self, one: float | None, other: float | None) -> bool:
        """Whether two losses count as the same."""
        return one == other or (
            one is not None and other is not None and math.isclose(one, other, rel_tol=self.tolerance, abs_tol=1e-9)
        )

    def differing(self, one: Mapping[int, float | None], other: Mapping[int, float | None]) -> list[str]:
        """The steps at which two courses of losses are not the same."""
        steps = sorted({*one, *other})
        return [f"step {s}: {one.get(s)} and {other.get(s)}" for s in steps if not self.same(one.get(s), other.get(s))]

    def same_numbers(self, cell: Cell, one: Mapping[str, float], other: Mapping[str, float]) -> bool:
        """Whether two evaluations of one trainer agree in the number that counts."""
        return self.same(*(self.worth(cell.algorithm, each) for each in (one, other)))

    def same_model(self, cell: Cell, one: Mapping[str, float], other: Mapping[str, float]) -> bool:
        """Whether two evaluations are of the same weights; what is relative to the model at the start does not tell."""
        if cell.algorithm == "dpo":
            return self.same(one.get("eval_logps/chosen"), other.get("eval_logps/chosen"))
        return self.same_numbers(cell, one, other)


def _numbers(evaluation: Mapping[str, float]) -> str:
    """What an evaluation says of how good the model is."""
    shown = (f"{name} {evaluation[name]}" for name in ("eval_loss", "eval_reward") if name in evaluation)
    return ", ".join(shown) or "nothing"


class TrainingChecks(CellChecks):
    """One training of each cell, and what can be asked of it."""

    def test_it_trains_every_planned_step(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        whole = self.bench(cell, tmp_path_factory).whole
        planned = whole.run.get("steps_planned")
        wanted = self.usual(cell.algorithm).get("max_steps", planned)
        remedy = "call events.start(steps_planned) once, then events.step(n) after each step, n = 1, 2, …"
        check(whole.heard.starts == [(0, planned)], f"events.start was called with {whole.heard.starts}", remedy)
        check(planned == wanted, f"{planned} steps are planned, and max_steps is {wanted}", "plan max_steps steps")
        expected = list(range(1, (planned or 0) + 1))
        check(whole.heard.steps == expected, f"of {planned} planned steps these came: {whole.heard.steps}", remedy)
        check(
            whole.run["model_type"] == cell.model_type, f"core read a {whole.run['model_type']} model", "see tiny_model"
        )

    def test_every_step_has_a_finite_loss(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        whole = self.bench(cell, tmp_path_factory).whole
        odd = [f"step {s}: {loss}" for s, loss in whole.losses.items() if loss is None or not math.isfinite(loss)]
        remedy = 'give events.metrics(step, {"loss": …}, epoch=…) the mean of the window, a finite number'
        check(whole.losses and not odd, f"rows of metrics without a finite loss: {listed(odd) or 'all'}", remedy)

    def test_the_run_is_finished_and_has_its_model(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        whole = self.bench(cell, tmp_path_factory).whole
        ended = (whole.run.get("status"), whole.run.get("steps_done") == whole.run.get("steps_planned"))
        check(
            ended == ("finished", True),
            f"run.json says {ended[0]} after {whole.run.get('steps_done')} steps",
            "see train()",
        )
        files = [p.name for p in whole.model.rglob("*") if p.is_file()] if whole.model.is_dir() else []
        remedy = "write a whole model folder in save(path): config.json, weights in safetensors, and the tokenizer"
        check("config.json" in files or "adapter_config.json" in files, f"model/ holds {files or 'nothing'}", remedy)

    def test_training_makes_it_better(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        evaluations = self.bench(cell, tmp_path_factory).whole.evaluations
        before, after = (self.worth(cell.algorithm, e) for e in evaluations)
        remedy = "does train() change the weights that evaluate() sees? else raise settings = {'learning_rate': …}"
        check(
            before is not None and after is not None and after > before,
            f"evaluated on the rows that it trains, it goes from {' to '.join(map(_numbers, evaluations))}",
            remedy,
        )

    def test_an_evaluation_is_finite_and_repeats(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        bench = self.bench(cell, tmp_path_factory)
        first = bench.whole.evaluations[-1]
        odd = [f"{name}: {value}" for name, value in first.items() if not math.isfinite(value)]
        remedy = "give the mean loss over tokens or pairs as 'loss', or the mean reward as 'reward'"
        check(self.worth(cell.algorithm, first) is not None, f"evaluate() gives {sorted(first)}", remedy)
        check(not odd, f"evaluate() gives numbers that are not finite:{listed(odd)}", "leave out what has no meaning")
        again = bench.evaluate(bench.whole.trainer)
        remedy = "evaluate without dropout, in a fixed order, with a seed of its own, and change nothing by it"
        same = self.same_numbers(cell, first, again)
        check(same, f"a second evaluate() gives {again}, the first gave {first}", remedy)

    def test_each_question_gets_its_answer(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        bench = self.bench(cell, tmp_path_factory)
        asked, answers = len(bench.questions), bench.answers
        check(
            len(answers) == asked, f"predict() gives {len(answers)} answers to {asked} questions", "give one for each"
        )
        odd = sorted({type(a).__name__ for a in answers if not isinstance(a, str | list | float)})
        check(
            not odd, f"predict() gives answers of type {', '.join(odd)}", "give strings, lists of messages, or scores"
        )
        check(bench.predict(bench.whole.trainer, []) == [], "predict([]) is not empty", "give [] for no question")

    def test_an_answer_belongs_to_its_question(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        bench = self.bench(cell, tmp_path_factory)
        remedy = "answer greedily, or with a fixed seed, so that an answer can be repeated"
        again = bench.predict(bench.whole.trainer, bench.questions)
        check(again == bench.answers, f"asked again, predict() gives {again}, before {bench.answers}", remedy)
        turned = bench.predict(bench.whole.trainer, bench.questions[::-1])[::-1]
        remedy = "give the answers in the order of the questions"
        same = _alike(turned, bench.answers)
        check(same, f"asked in reverse, predict() gives {turned}, before {bench.answers}", remedy)

    def test_the_saved_model_is_the_trained_one(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        bench = self.bench(cell, tmp_path_factory)
        self._loads_alike(bench, "reopened", bench.whole.model)

    def test_an_opened_model_answers_as_its_trainer(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        if not self.found.opens_models:
            pytest.skip("the backend opens no models: the hook open_model is optional")
        bench = self.bench(cell, tmp_path_factory)
        answers = bench.opened(bench.whole.model)
        remedy = "load what was saved as build_trainer does, and ask it with the template, prompt and ends of the run"
        check(answers == bench.answers, f"opened, the model answers {answers}, its trainer {bench.answers}", remedy)

    def test_save_model_writes_it_anywhere(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        bench, target = self.bench(cell, tmp_path_factory), tmp_path_factory.mktemp("elsewhere") / "deep" / "model"
        trainer = bench.whole.trainer
        with bench.watched("save()"):
            trainer.save_model(target)
        check(target.is_dir(), "save(path) does not write to its path", "write the model folder to exactly that path")
        self._loads_alike(bench, "reopened-elsewhere", target)

    def _loads_alike(self, bench: Bench, name: str, model: Path) -> None:
        evaluation, answers = bench.reopened(name, model)
        expected = bench.whole.evaluations[-1]
        remedy = (
            "save the weights as they are after training, whole and in full precision, and load what model_name names"
        )
        numbers = f"evaluates to {_numbers(evaluation)}, before {_numbers(expected)}"
        check(self.same_model(bench.cell, evaluation, expected), f"the saved model, loaded again, {numbers}", remedy)
        check(answers == bench.answers, f"the saved model answers {answers}, before {bench.answers}", remedy)

    def test_a_preview_has_each_row(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        bench = self.bench(cell, tmp_path_factory)
        shown = preview(bench.whole.trainer)
        rows = len(bench.whole.trainer._plan.rows.train)
        check(len(shown) == rows, f"preview() gives {len(shown)} entries for {rows} rows", "give one for each row")
        check(preview(bench.whole.trainer, 0) == [], "preview([]) is not empty", "give [] for no row")

    def test_a_preview_without_the_model_is_the_trainers(
        self, cell: Cell, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        bench = self.bench(cell, tmp_path_factory)
        found = bench.preview_alone()
        if found is None:
            pytest.skip("it has no hook build_preview, so 'aligntune preview' is refused for it")
        shown = [next(iter(row.parts.values())) for row in found]
        alike = [list(row.input_ids) for row in shown], [list(row.labels) for row in shown]
        trained = preview(bench.whole.trainer)
        expected = [list(row.input_ids) for row in trained], [list(row.labels) for row in trained]
        remedy = "let both use one function: what is shown must be what is trained"
        check(alike == expected, "build_preview() shows other tokens or labels than the trainer's preview()", remedy)

    def test_a_trainer_that_never_trains_closes_and_leaves_nothing(
        self, cell: Cell, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        bench = self.bench(cell, tmp_path_factory)
        trainer = bench.trainer("closed")
        with bench.watched("close()"):
            trainer.close()
            trainer.close()
        left = [p.name for p in trainer.run_dir.rglob("*")] if trainer.run_dir.exists() else []
        check(
            not left,
            f"a trainer that never trained left files behind:{listed(left)}",
            "write in train() and save() only",
        )

    def test_nothing_else_is_changed(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        bench = self.bench(cell, tmp_path_factory)
        _ = bench.whole, bench.answers, bench.interrupted
        with bench.watched("save()"):
            bench.whole.trainer.save_model(tmp_path_factory.mktemp("saved") / "model")
        remedy = "write within request.work_dir and the paths that you are given; put back whatever you must change"
        check(not bench.changes, f"the backend changes what is not its own:{listed(bench.changes)}", remedy)

    def test_what_is_not_claimed_is_refused(self, algorithm: str) -> None:
        cells = {(cell.task, cell.model_type) for cell in self.cells() if cell.algorithm == algorithm}
        pairs = [pair for pair in itertools.product(TASKS, MODEL_TYPES) if pair not in cells]
        passed = [f"{t}, {m}" for t, m in pairs if not self._refuses(algorithm, task_type=t, model_type=m)]
        check(not passed, f"{algorithm} is not refused for what is not claimed:{listed(passed)}", "report this")
        others = [name for name in ALGORITHMS if name not in self.claims() and not self._refuses(name)]
        check(not others, f"algorithms that are not claimed are not refused:{listed(others)}", "report this")

    def _refuses(self, algorithm: str, **what: Any) -> bool:
        try:
            get_trainer(algorithm, self.backend, **what)
        except UnsupportedAlgorithmError:
            return True
        except AlignTuneError:
            return False
        return False


def _alike(answers: list[Any], others: list[Any]) -> bool:
    """The same answers; scores to the rounding that a batch of other rows beside them brings."""
    return len(answers) == len(others) and all(
        math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-6) if isinstance(one, float) else one == other
        for one, other in zip(answers, others, strict=True)
    )
