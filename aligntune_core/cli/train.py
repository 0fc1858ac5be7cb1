"""`train`: the main job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from aligntune_core.cli.output import hide_messages, show_messages
from aligntune_core.cli.train_options import TrainCommand, algorithm_of, run_options, settings_of
from aligntune_core.environment import rank
from aligntune_core.values import TrainResult


@click.command(cls=TrainCommand)
@run_options
@click.option("--dry-run", is_flag=True, help="Stop after every check: nothing is trained or written.")
@click.option("--quiet", is_flag=True, help="Print errors and the result only.")
def train(
    config: Path | None, algorithm: str | None, backend: str | None, dry_run: bool, quiet: bool, **flags: Any
) -> None:
    """Fine-tune a model, with the settings in CONFIG.yaml and in flags; a flag wins over the file.

    aligntune train --model-name Qwen/Qwen3-0.6B --dataset-name data.jsonl --use-peft
    """
    from aligntune_core.factory import get_trainer

    settings = settings_of(flags)
    quiet = quiet or rank() > 0
    (hide_messages if quiet else show_messages)()
    name = algorithm_of(algorithm, config, settings)
    with get_trainer(name, backend or "auto", config=config, **settings) as trainer:
        if quiet:
            trainer.listen()
        if dry_run:
            click.echo(f"every check passed; {trainer.run_dir} would be written")
            return
        result = trainer.train()
        if rank() == 0:
            _tell(trainer.run_dir, result)


def _tell(run_dir: Path, result: TrainResult) -> None:
    """How the run ended, on standard output."""
    from aligntune_core.runs.folder import METRICS
    from aligntune_core.runs.metrics import read

    rows = read(run_dir / METRICS)
    steps = f"{result.steps} step{'' if result.steps == 1 else 's'}"
    click.echo(f"{steps} in {result.seconds:.1f} s, {_outcome(rows, result)}")
    if held_back := [row for row in rows if row["split"] == "eval"]:
        _tell_evaluation(held_back[-1], result.steps)
    click.echo(f"model:  {result.model_path}")
    report = run_dir / "report.html"
    click.echo(f"report: {report if report.exists() else 'none (see log.txt)'}")


def _tell_evaluation(row: Mapping[str, Any], steps: int) -> None:
    """The last numbers on held-back rows; of which step, where that is not the last."""
    from aligntune_core.runs.progress import measured

    when = "" if row["step"] == steps else f" (step {row['step']})"
    click.echo(f"eval:   {measured(row)}{when}")


def _outcome(rows: Sequence[Mapping[str, Any]], result: TrainResult) -> str:
    """The number that says how good the model is: the last reward, which not every row has, or the final loss."""
    rewards = [row["reward"] for row in rows if row.get("reward") is not None]
    if result.final_loss is None and rewards:
        return f"final reward {rewards[-1]:.4f}"
    return f"final loss {'none' if result.final_loss is None else f'{result.final_loss:.4f}'}"
