"""Going on with a run: which checkpoint, whether the settings are still the same, whether it is finished."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aligntune_core.errors import ConfigError, Problem
from aligntune_core.runs.checkpoints import checkpoints, damage, newest_good, step_of
from aligntune_core.runs.folder import RUN, read_run

log = logging.getLogger("aligntune")

FREE = {"resume", "overwrite", "output_dir", "isolation"}
"""Settings that may differ when a run goes on; any other would silently make it another run."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a run goes on from: its `run.json` and the checkpoint; both None for a start.

    `asked` tells that the user wants to go on in the folder, even where `auto` found nothing to go on from.
    """

    run: Mapping[str, Any] | None = None
    checkpoint: Path | None = None
    asked: bool = False

    @property
    def finished(self) -> bool:
        return self.run is not None and self.run.get("status") == "finished"


def run_folder_of(resume: object) -> Path | None:
    """The run folder that a `resume` path means: itself, or the folder of that checkpoint; None for true and auto."""
    if not isinstance(resume, str | Path) or resume == "auto":
        return None
    path = Path(resume).expanduser()
    return path.parent if step_of(path) >= 0 else path


def _choose(resume: object, run_dir: Path) -> Path | None:
    path = Path(resume).expanduser() if isinstance(resume, str | Path) and resume != "auto" else None
    if path is not None and step_of(path) >= 0:
        if problem := damage(path) if path.exists() else "this checkpoint does not exist":
            good = [c.name for c in checkpoints(run_dir) if damage(c) is None]
            remedy = f"the good ones are {', '.join(good)}" if good else "no good one is left: start again"
            raise ConfigError(problem, remedy, field="resume", value=str(resume))
        return path
    found, damaged = newest_good(run_dir)
    for line in damaged:
        log.warning("a damaged checkpoint is passed over: %s", line)
    if found is None and resume != "auto":
        what = f"has no good checkpoint ({damaged[0]})" if damaged else "has no checkpoint"
        remedy = "set resume: auto, which starts again where there is no good checkpoint"
        raise ConfigError(f"{run_dir} {what}", remedy, field="resume", value=resume)
    return found


def find_resumption(resume: object, run_dir: Path) -> Resumption:
    """Resolve `resume` for a run folder.

    Raises:
        ConfigError: there is no run or no good checkpoint to go on from.
    """
    if not resume:
        return Resumption()
    named = run_folder_of(resume)
    if named is not None and named.resolve() != run_dir.resolve():
        remedy = "leave output_dir out: a run goes on in its own folder"
        raise ConfigError(f"it is another run's than {run_dir}", remedy, field="resume", value=str(resume))
    run = read_run(run_dir)
    if run is None and (run_dir / RUN).exists():
        remedy = "set overwrite: true instead, to start again"
        raise ConfigError(f"{run_dir / RUN} is broken", remedy, field="resume", value=resume)
    if run is None:
        if resume == "auto":
            return Resumption(asked=True)
        what = "holds no run" if run_dir.exists() else "does not exist"
        remedy = "give the folder of a run, or set resume: auto to start where there is none"
        raise ConfigError(f"{run_dir} {what}", remedy, field="resume", value=resume)
    if run.get("status") == "finished":
        return Resumption(run, asked=True)
    checkpoint = _choose(resume, run_dir)
    return Resumption(run if checkpoint else None, checkpoint, asked=True)


def check_unchanged(run: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings, another backend or other data.

    Args:
        run: the earlier `run.json`.
        now: the same fields as they are now: algorithm, config, selection, data.

    Raises:
        ConfigError: one line for each difference.
    """
    before, after = dict(run.get("config", {})), dict(now["config"])
    before |= {"algorithm": run.get("algorithm"), "backend": run.get("selection", {}).get("backend")}
    after |= {"algorithm": now["algorithm"], "backend": now["selection"]["backend"]}
    before["processes"], after["processes"] = run.get("world_size", 1), now["world_size"]
    remedy = "set it back, or start a new run in another output_dir"
    changed = [
        Problem.of(name, f"the run that is resumed has {before.get(name)!r:.60}", remedy, value=after.get(name))
        for name in sorted({*before, *after} - FREE)
        if before.get(name) != after.get(name)
    ]
    changed += _changed_rows(before, after, run.get("data", {}), now["data"])
    if changed:
        raise ConfigError(changed)


def _changed_rows(
    before: Mapping[str, Any], after: Mapping[str, Any], was: Mapping[str, Any], now: Mapping[str, Any]
) -> list[Problem]:
    """Rows that differ under the same name; a run that kept no digest of evaluation rows goes on with any."""
    text, remedy = "the rows have changed since the run that is resumed began", "bring them back, or start a new run"
    found = []
    for field, digest in (("dataset_name", "sha256"), ("eval_dataset_name", "eval_sha256")):
        told = digest in was or digest == "sha256"
        if told and before.get(field) == after.get(field) and was.get(digest) != now.get(digest):
            name = now["source"] if field == "dataset_name" else after.get(field) or "in memory"
            found.append(Problem.of(field, text, remedy, value=name))
    return found


def tell_changes(run: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn of every other version, and of plugins that have changed; a run may go on with them."""
    plugins = {p["distribution"] for p in now["plugins"]}
    for name, version in now["versions"].items():
        if name not in plugins and (was := run.get("versions", {}).get(name)) not in (None, version):
            log.warning("%s was %s when this run started and is %s now", name, was, version)
    _tell_plugins(run.get("plugins", []), now["plugins"])


def _tell_plugins(before: Sequence[Mapping[str, str]], after: Sequence[Mapping[str, str]]) -> None:
    """Warn of each difference between the plugins that were installed and those that are, field by field."""
    was, now = ({p["name"]: p for p in plugins} for plugins in (before, after))
    for name in sorted({*was, *now}):
        if name not in now or name not in was:
            gone = "was installed when this run started and is not now" if name in was else "has come since"
            log.warning("the plugin '%s' %s", name, gone)
            continue
        for field in ("distribution", "version", "entry_point"):
            if was[name].get(field, "") not in ("", now[name][field]):
                text = "the %s of the plugin '%s' was %s when this run started and is %s now"
                log.warning(text, field, name, was[name][field], now[name][field])
        if was[name].get("sha256", "") not in ("", now[name]["sha256"]):
            log.warning("the code of the plugin '%s' has changed since this run started", name)
