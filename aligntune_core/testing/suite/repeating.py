"""A run can be repeated and gone on with: the seed decides, and an interruption changes nothing."""

from __future__ import annotations

import pytest

from aligntune_core.testing.suite.base import Cell, needs
from aligntune_core.testing.suite.checking import check, listed
from aligntune_core.testing.suite.training import CellChecks


class RepeatingChecks(CellChecks):
    """Further trainings of each cell, compared with the first."""

    @needs("seed")
    def test_the_same_seed_gives_the_same_losses(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        bench = self.bench(cell, tmp_path_factory)
        differing = self.differing(bench.whole.losses, bench.again.losses)
        remedy = "seed everything that draws: order, dropout, new weights; an evaluation before must not disturb it"
        check(not differing, f"two runs with the same seed differ:{listed(differing)}", remedy)

    @needs("seed")
    def test_another_seed_gives_other_losses(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        bench = self.bench(cell, tmp_path_factory)
        remedy = "draw the order of the rows with the seed, or take seed out of the claim's settings"
        check(
            self.differing(bench.whole.losses, bench.otherwise.losses),
            "runs with two seeds have the same losses",
            remedy,
        )

    @needs("resume")
    def test_an_interrupted_run_saves_and_stops(self, cell: Cell, tmp_path_factory: pytest.TempPathFactory) -> None:
        bench = self.bench(cell, tmp_path_factory)
        stopped = bench.interrupted
        done = stopped.heard.steps[-1] if stopped.heard.steps else 0
        planned = stopped.run.get("steps_planned") or 0
        remedy = (
            "after each step look at events.stopping; where it is true, give events.checkpoint a checkpoint and return"
        )
        check(stopped.run.get("status") == "interrupted", f"run.json says {stopped.run.get('status')}", remedy)
        check(0 < done < planned, f"interrupted in step {max(1, planned * 2 // 5)} of {planned}, it did {done}", remedy)
        check(
            done in stopped.checkpoints,
            f"interrupted after step {done}, it has checkpoints of {stopped.checkpoints}",
            remedy,
        )

    @needs("resume")
    def test_a_resumed_run_goes_on_as_if_nothing_had_happened(
        self, cell: Cell, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        bench = self.bench(cell, tmp_path_factory)
        whole, resumed = bench.whole, bench.resumed
        done = bench.interrupted.heard.steps[-1]
        planned = whole.run.get("steps_planned") or 0
        remedy = (
            "restore weights, optimizer, schedule, the place in the data and all random states from events.resume_from"
        )
        promise = f"interrupted after step {done} of {planned}, it goes on with steps {resumed.heard.steps}"
        check(resumed.heard.steps == list(range(done + 1, planned + 1)), promise, remedy)
        differing = self.differing(whole.losses, resumed.losses)
        check(not differing, f"the resumed run and the one without a break differ:{listed(differing)}", remedy)
        ends = [run.evaluations[-1] for run in (whole, resumed)]
        losses = " and ".join(str(self.worth(cell.algorithm, end)) for end in ends)
        check(self.same_numbers(cell, *ends), f"without a break and resumed, the final evaluation is {losses}", remedy)
