"""`preview`: rows as the model sees them, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aligntune_core.cli.output import json_option, print_json
from aligntune_core.cli.train_options import TrainCommand, algorithm_of, run_options, settings_of

if TYPE_CHECKING:
    from aligntune_core.preview import Shown
    from aligntune_core.values import RowPreview


@click.command(cls=TrainCommand)
@run_options
@click.option("-n", "--rows", type=click.IntRange(0), default=3, metavar="N", help="How many rows are shown [3].")
@click.option("--all", "everything", is_flag=True, help="Count over all rows, not the first 1,000.")
@json_option
def preview(
    config: Path | None,
    algorithm: str | None,
    backend: str | None,
    rows: int,
    everything: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Show rows as the model sees them: which tokens are trained, and what surrounds them.

    Takes CONFIG.yaml and flags as 'aligntune train' does; loads the tokenizer alone, and writes nothing.
    """
    from aligntune_core.cli.preview_page import Page
    from aligntune_core.preview import LOOKED_AT, show

    settings = settings_of(flags)
    name = algorithm_of(algorithm, config, settings)
    shown = show(name, backend or "auto", config, settings, shown=rows, most=None if everything else LOOKED_AT)
    if as_json:
        print_json(facts(shown))
    else:
        Page(shown).print()


def facts(shown: Shown) -> dict[str, Any]:
    """What a preview shows, as data."""
    plan, counts, bos = shown.plan, shown.counts, shown.preview.bos
    columns = plan.rows.columns
    return {
        "algorithm": plan.algorithm,
        "backend": plan.selection.backend,
        "task": plan.task,
        "model_type": plan.model_type,
        "rows": [_row(shown, number, row) for number, row in enumerate(shown.rows, 1)],
        "summary": {
            "rows": shown.there_are,
            "looked_at": counts.rows,
            "tokens": counts.tokens,
            "trained": counts.trained,
            "share": counts.share,
            "longest": counts.longest,
            "max_seq_length": shown.longest,
            "cut": counts.cut,
            "left_out": counts.left_out,
            "nothing_trained": counts.untrained,
            "labelled": counts.labelled,
        },
        "template": shown.preview.template,
        "columns": {
            "format": columns.format,
            "used": columns.used,
            "rewards": columns.rewards,
            "unused": columns.unused,
        },
        "bos": {
            "id": bos,
            "text": shown.preview.texts([bos])[0] if bos is not None else None,
            "sequences": counts.parts,
            "once": counts.begun[1],
            "without": counts.begun[0],
            "doubled": sum(n for times, n in counts.begun.items() if times > 1),
        },
        "end": {
            "sequences": counts.whole,
            "ended": [
                {"id": token, "text": shown.preview.texts([token])[0], "sequences": n}
                for token, n in sorted(counts.ends.items())
            ],
            "unended": counts.unended,
        },
    }


def _row(shown: Shown, number: int, row: RowPreview) -> dict[str, Any]:
    parts = {name: shown.tokens(part) for name, part in row.parts.items()}
    return {
        "row": number,
        "cut": row.cut,
        "left_out": row.left_out,
        "label": row.label or None,
        "parts": {
            name: [{"id": t.id, "text": t.text, "trained": t.trained, "special": t.special} for t in tokens]
            for name, tokens in parts.items()
        },
    }
