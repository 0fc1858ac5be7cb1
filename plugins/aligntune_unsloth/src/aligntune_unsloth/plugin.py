"""The hooks: what Unsloth trains, whether it can here, and in which process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aligntune_trl import plugin as trl

from aligntune_core import (
    AlgorithmSupport,
    Availability,
    BackendTrainer,
    Environment,
    Isolation,
    OpenModel,
    OpenRequest,
    Preview,
    TrainRequest,
    hookimpl,
)
from aligntune_unsloth.availability import judge
from aligntune_unsloth.claims import claims
from aligntune_unsloth.variables import variables


@hookimpl
def provides_algorithms() -> Iterable[AlgorithmSupport]:
    return claims()


@hookimpl
def is_available(environment: Environment, request: TrainRequest | None) -> Availability:
    return judge(environment, asked_for=request is not None)


@hookimpl
def isolation(folder: Path) -> Isolation:
    neutral = ("torch", "datasets")  # a limited cell is trained without Unsloth, so it cannot be imported yet
    proof = ("aligntune_unsloth.proof",)
    return Isolation(own_process=True, preload=neutral, proof=proof, environ=variables(folder))


@hookimpl
def build_trainer(request: TrainRequest) -> BackendTrainer:
    from aligntune_unsloth.build import build

    return build(request)


@hookimpl
def build_preview(request: TrainRequest) -> Preview:
    return trl.build_preview(request)


@hookimpl
def tiny_model(model_type: str, path: Path) -> bool:
    return trl.tiny_model(model_type, path)


@hookimpl
def open_model(request: OpenRequest) -> OpenModel:
    return trl.open_model(request)
