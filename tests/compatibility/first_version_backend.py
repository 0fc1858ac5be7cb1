"""A backend as one was written for AlignTune 0.1. This file never changes: it stands for those in the world."""

import json
from pathlib import Path

from aligntune_core import AlgorithmSupport, Availability, Support, hookimpl

SETTINGS = {"model_name", "max_steps", "save_steps", "logging_steps", "resume", "seed"}


class Trainer:
    def __init__(self, request):
        self.request = request
        self.step = 0
        self.resolved = {"seed": request.config.seed}
        self.native = self

    def train(self, events):
        if events.resume_from is not None:
            self.step = json.loads((events.resume_from / "state.json").read_text("utf-8"))
        events.start(self.request.config.max_steps)
        while self.step < self.request.config.max_steps and not events.stopping:
            self.step += 1
            events.step(self.step)
            events.metrics(self.step, {"loss": 1.0 / self.step}, epoch=0.5)
            folder = self.request.work_dir / f"checkpoint-{self.step}"
            folder.mkdir(parents=True)
            (folder / "state.json").write_text(json.dumps(self.step), "utf-8")
            events.checkpoint(self.step, folder)
        events.sample(self.step, "question", "answer")

    def evaluate(self):
        return {"loss": 1.0}

    def predict(self, inputs):
        return ["answer" for _ in inputs]

    def save(self, path: Path):
        path.mkdir(parents=True, exist_ok=True)
        (path / "state.json").write_text(json.dumps(self.step), "utf-8")

    def preview(self, rows):
        return [list(row) for row in rows]


@hookimpl
def provides_algorithms():
    cells = {("instruction_following", "causal_lm"): Support("full")}
    return [AlgorithmSupport(algorithm="sft", cells=cells, preference=3, settings=frozenset(SETTINGS))]


@hookimpl
def is_available(environment):
    if environment.python < (3, 11):
        return Availability(False, "Python is too old", "install Python 3.11")
    return Availability(True)


@hookimpl
def build_trainer(request):
    return Trainer(request)


@hookimpl
def tiny_model(model_type, path):
    return False
