"""`export`: a saved model in a folder of its own, its adapter merged where that is asked for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aligntune_core.cli.asking import opening_options
from aligntune_core.cli.output import json_option, print_json, show_messages

if TYPE_CHECKING:
    from aligntune_core.saved.export import Exported

DTYPES = ("float32", "bfloat16", "float16")


@click.command()
@click.argument("model")
@click.option("--merge", is_flag=True, help="Merge a LoRA adapter into its base, and compare the two.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to [beside the run].")
@click.option("--dtype", type=click.Choice(DTYPES), help="Of the merged weights [as the base is stored].")
@click.option("--overwrite", is_flag=True, help="Replace a model that is in FOLDER.")
@opening_options
@json_option
def export(
    model: str,
    merge: bool,
    output: Path | None,
    dtype: str | None,
    overwrite: bool,
    backend: str,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Write MODEL, a run folder, a checkpoint in it or a model folder, to a folder of its own, with a model card.

    With --merge the result is a full model that needs no adapter; its logits are compared with those of the base with
    its adapter, and one that computes something else is not kept.

    aligntune export runs/NAME --merge
    """
    from aligntune_core.saved import export as exporting
    from aligntune_core.saved.find import find_saved

    if dtype and not merge:
        raise click.UsageError("--dtype has no effect without --merge; give both, or leave it out")
    show_messages()
    saved = find_saved(model, trust_remote_code=trust_remote_code)
    target = exporting.default_output(saved, merge=merge) if output is None else output.expanduser()
    done = exporting.export(
        saved, target, merge=merge, dtype=dtype, overwrite=overwrite, backend=backend, trust=trust_remote_code
    )
    if as_json:
        print_json({"folder": str(done.folder), "adapter": done.adapter, "merged": _facts(done)})
        return
    click.echo(f"{_what(done, had_adapter=saved.head.base is not None, merge=merge)}: {done.folder}")
    if (report := done.merged) is not None:
        effect = f"; the adapter itself changes it by up to {report.effect:.2g}" if report.effect else ""
        told = (
            f"largest difference of a logit: {report.difference:.2g} (rounding explains {report.tolerance:.2g}){effect}"
        )
        click.echo(told)
        if report.note:
            click.echo(report.note)
    if done.adapter:
        click.echo(f"it needs its base, {saved.head.base}; a full model: --merge")


def _facts(done: Exported) -> dict[str, Any] | None:
    """How the merged model compares, as JSON."""
    return None if done.merged is None else asdict(done.merged)


def _what(done: Exported, *, had_adapter: bool, merge: bool) -> str:
    """What was written, in a few words."""
    if done.merged is not None:
        return f"{'merged' if had_adapter else 'a full model'}, {done.merged.dtype}"
    if done.adapter:
        return "the adapter, copied as it is"
    return "a full model, copied as it is" + ("; there is no adapter to merge" if merge else "")
