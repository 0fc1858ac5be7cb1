"""A plugin with commands and a tracker as one was written for AlignTune 0.1. This file never changes."""

import click

from aligntune_core import Callback, hookimpl


class Counter(Callback):
    def __init__(self, file):
        self.file, self.steps = file, 0

    def start(self, first, steps_planned):
        self.planned = steps_planned

    def step(self, step):
        self.steps += 1

    def stop(self):
        self.file.write_text(f"{self.steps} of {self.planned}", "utf-8")


@hookimpl
def provides_callbacks(run):
    return [Counter(run.run_dir / "count.txt")]


@hookimpl
def provides_commands():
    @click.command()
    def hello():
        click.echo("good day")

    return [hello]
