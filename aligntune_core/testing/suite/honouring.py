"""Every setting is honoured or refused: none is accepted and ignored."""

from __future__ import annotations

import pytest

from aligntune_core.errors import AlignTuneError, BackendUnavailableError, ConfigError
from aligntune_core.plugins import Backend
from aligntune_core.testing.suite import samples
from aligntune_core.testing.suite.base import Asked, SuiteBase, needs
from aligntune_core.testing.suite.checking import broken, check
from aligntune_core.testing.suite.runs import Bench, Trained, bench_of


class SettingChecks(SuiteBase):
    """Each setting of each algorithm, on the first cell that the backend claims for it."""

    def _bench(self, algorithm: str, make_folder: pytest.TempPathFactory) -> Bench:
        if not (verdict := self.verdict_here()).ok:
            pytest.skip(f"see test_it_can_run_here: {verdict.reason}")
        cell = self.first_cell(algorithm)
        if cell is None:
            pytest.skip(f"{algorithm} has no cell that is trained")
        return bench_of(self, cell, lambda: make_folder.mktemp("cell"))

    def test_a_setting_is_honoured_or_refused(
        self, setting: Asked, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = self._bench(setting.algorithm, tmp_path_factory)
        if setting.name not in self.claims()[setting.algorithm].settings:
            self._is_refused(setting, bench, monkeypatch)
        elif setting.name in samples.UNSEEN:
            pytest.skip(samples.UNSEEN[setting.name])
        elif setting.name == "chat_template" and not self._has_conversations(bench):
            pytest.skip("no task of conversations is claimed, so there is nothing to render")
        else:
            self._is_honoured(setting, bench)

    def _has_conversations(self, bench: Bench) -> bool:
        first = self.rows(bench.cell.algorithm, bench.cell.task)[0]
        return bool({"messages", "instruction"} & set(first)) or isinstance(first.get("prompt"), list)

    def _is_refused(self, setting: Asked, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that is not claimed ends in an error that says so, before the backend is asked for a trainer."""

        def build(backend: Backend, request: object) -> None:
            broken(f"{setting} is not claimed, and given it reaches build_trainer()", "report this: core lets it pass")

        monkeypatch.setattr(Backend, "build_trainer", build)
        value = samples.OTHER.get(setting.name, samples.Other("any")).value
        with pytest.raises(AlignTuneError) as caught:
            bench.trainer("refused", **{setting.name: value})
        problems = caught.value.problems
        told = any(p.field == setting.name and "has no such setting" in p.problem for p in problems)
        check(told, f"{setting} is not claimed, and given it the error does not say so: {caught.value}", "report this")

    def _is_honoured(self, setting: Asked, bench: Bench) -> None:
        """One that it claims can be seen in `resolved`, once it has another value."""
        other = self.other_value(setting.algorithm, setting.name)
        common = {**dict.fromkeys(other.without), **other.given}
        rows = setting.name in samples.IN_THE_ROWS
        before = bench.resolved(rows=rows, **common)
        try:
            after = bench.resolved(rows=rows, **common, **{setting.name: other.value})
        except (ConfigError, BackendUnavailableError) as error:
            named = [problem.field for problem in error.problems]
            if setting.name in samples.AS_THE_MACHINE_CAN and setting.name in named:
                return
            remedy = (
                f"take it out of the claim's settings, or set other_values = {{'{setting.name}': …}} to a valid value"
            )
            broken(f"{setting} is claimed, and {other.value!r} is refused: {error}", remedy)
        remedy = "act on it and show in `resolved` what the library holds, or take it out of the claim's settings"
        check(before != after, f"{setting} is claimed, and {other.value!r} changes nothing in `resolved`", remedy)

    def test_the_same_settings_resolve_alike(self, algorithm: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        bench = self._bench(algorithm, tmp_path_factory)
        first = bench.resolved()
        bench.forget()
        remedy = "leave times, addresses and other accidents out of `resolved`: it is compared between runs"
        check(first == bench.resolved(), "two trainers with the same settings have another `resolved`", remedy)

    def _counted(self, algorithm: str, make_folder: pytest.TempPathFactory) -> Trained:
        counted: Trained = self._bench(algorithm, make_folder).counted
        return counted

    @needs("num_epochs")
    def test_an_epoch_has_its_steps(self, algorithm: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        counted = self._counted(algorithm, tmp_path_factory)
        config, rows = counted.trainer._plan.config, len(counted.trainer._plan.rows.train)
        expected, planned = self.steps_of_an_epoch(config, rows), counted.run.get("steps_planned")
        promise = f"one epoch of {rows} rows, {config.batch_size} × {config.gradient_accumulation_steps} a step, "
        remedy = "the last batch may be smaller, and is a step too; or override steps_of_an_epoch in your class"
        check(planned == expected, f"{promise}has {planned} steps, expected {expected}", remedy)

    def test_what_recurs_comes_at_its_steps(self, rhythm: Asked, tmp_path_factory: pytest.TempPathFactory) -> None:
        counted = self._counted(rhythm.algorithm, tmp_path_factory)
        every, last = getattr(counted.trainer._plan.config, rhythm.name), counted.run["steps_done"]
        split = "eval" if rhythm.name == "eval_steps" else "train"
        steps = [row["step"] for row in counted.rows if row["split"] == split]
        what, call = f"rows of the split {split}", "events.metrics"
        if rhythm.name == "save_steps":
            steps, what, call = list(counted.checkpoints), "checkpoints", "events.checkpoint"
        due = set(range(every, last + 1, every)) | ({last} if rhythm.name == "save_steps" else set())
        right = due <= set(steps) <= due | {last} and len(steps) == len(set(steps))
        remedy = f"call {call} at every step that {rhythm.name} divides, and at no other but the last"
        check(
            right, f"{rhythm.name} = {every} in {last} steps: there are {what} at {steps}, due at {sorted(due)}", remedy
        )
