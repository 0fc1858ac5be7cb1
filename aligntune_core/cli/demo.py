"""`demo`: a small model learns the package's own questions and answers, on this machine, offline."""

from __future__ import annotations

import shutil
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import click

from aligntune_core.cli.output import show_messages

EPOCHS, BATCH, RATE, LENGTH = 16, 24, 3e-3, 96
SHOWN = 4


def _ask(trainer: Any, questions: list[str]) -> list[str]:
    return [str(answer) for answer in trainer.predict(questions)]


def _tick(value: float, chars: int, delta: float, left: bool = False) -> str:
    """A number at an axis, as wide as the chart asks."""
    text = f"{value:.0f}" if abs(value) >= 20 else f"{value:.2f}"
    return text.ljust(chars) if left else text.rjust(chars)


def _chart(rows: list[dict[str, Any]]) -> None:
    """The loss curves in the terminal."""
    try:
        import plotille
    except ImportError:
        click.echo("(the loss curve needs plotille: pip install 'aligntune[report]')")
        return
    figure = plotille.Figure()
    figure.width, figure.height = min(shutil.get_terminal_size().columns, 80) - 20, 12
    figure.x_label, figure.y_label = "step", "loss"
    figure.with_colors = sys.stdout.isatty()
    figure.register_label_formatter(float, _tick)
    curves = {
        split: [(row["step"], row["loss"]) for row in rows if row["split"] == split and row.get("loss") is not None]
        for split in ("train", "eval")
    }
    figure.plot(*zip(*curves["train"], strict=True), label="training", lc="cyan")
    figure.scatter(*zip(*curves["eval"], strict=True), label="held-back phrasings", lc="yellow", marker="o")
    figure.set_x_limits(min_=0, max_=rows[-1]["step"])
    figure.set_y_limits(min_=0)
    click.echo(figure.show(legend=True))


def _table(questions: list[str], before: list[str], after: list[str]) -> None:
    for question, old, new in zip(questions, before, after, strict=True):
        click.secho(question, bold=True)
        for label, answer, colour in (("before", old, "red"), ("after", new, "green")):
            text = textwrap.shorten(answer or "(nothing)", 90, placeholder=" …")
            click.secho(f"  {label + ':':8}", fg=colour, nl=False)
            click.echo(textwrap.fill(text, 78, initial_indent=" ", subsequent_indent=" " * 11).lstrip(" ") or "")


@click.command()
@click.option("--output-dir", metavar="TEXT", help="The run folder [a new one under runs/].")
@click.option("--backend", metavar="NAME", default="auto", help="Who trains [auto].")
def demo(output_dir: str | None, backend: str) -> None:
    """Train a small model on this machine in about a minute, offline.

    It learns questions and answers about fine-tuning, and is asked in words that it has not seen.
    """
    from aligntune_core.demo import HELD_BACK, rows
    from aligntune_core.environment import detect
    from aligntune_core.factory import get_trainer
    from aligntune_core.installed import choose, default_registry
    from aligntune_core.runs.metrics import append, read

    show_messages()
    _, selection = choose(default_registry(), detect(), "sft", backend)
    chosen = default_registry().backends[selection.backend]
    held_back = rows(HELD_BACK)
    questions = [row["instruction"] for row in held_back[:SHOWN]]
    with tempfile.TemporaryDirectory(prefix="aligntune-demo-") as folder:
        model = Path(folder) / "small-model"
        if not chosen.tiny_model("causal_lm", model):
            raise click.ClickException(f"the backend '{chosen.name}' brings no small model; try another --backend")
        settings: dict[str, Any] = {
            "model_name": str(model), "output_dir": output_dir, "num_epochs": EPOCHS, "batch_size": BATCH,
            "gradient_accumulation_steps": 1, "learning_rate": RATE, "max_seq_length": LENGTH, "logging_steps": 10,
            "save_steps": 80, "eval_steps": 40,
        }  # fmt: skip
        with get_trainer("sft", backend, train_dataset=rows(), eval_dataset=held_back, **settings) as trainer:
            before = _ask(trainer, questions)
            result = trainer.train()
            after = _ask(trainer, questions)
            for step, answers in ((0, before), (result.steps, after)):
                for question, answer in zip(questions, answers, strict=True):
                    append(trainer.run_dir / "samples.jsonl", {"step": step, "prompt": question, "completion": answer})
            trainer.write_report()
            metrics = read(trainer.run_dir / "metrics.jsonl")
    click.echo()
    _chart(metrics)
    click.echo()
    _table(questions, before, after)
    click.echo()
    click.echo(f"{result.steps} steps in {result.seconds:.0f} s; everything is in {result.run_dir}")
    click.echo(f"open {result.run_dir}/report.html to see it")
