"""A trainer of aligntune_trl around a model that Unsloth loads."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from aligntune_core import BackendTrainer, ConfigError, TrainRequest, UnsupportedAlgorithmError
from aligntune_unsloth.claims import NO_WORDS, uses_unsloth
from aligntune_unsloth.importing import unsloth


def build(request: TrainRequest) -> BackendTrainer:
    """Import Unsloth, where the cell is trained with it, and let aligntune_trl build the trainer.

    Raises:
        UnsupportedAlgorithmError: the cell is refused with its note.
        BackendUnavailableError: Unsloth cannot be imported.
        ConfigError: an open model, which Unsloth would not have loaded; what only the library or the model can tell.
    """
    if request.task == "token_classification":
        raise UnsupportedAlgorithmError(NO_WORDS, 'use backend="trl"', field="task_type", value=request.task)
    if not uses_unsloth(request.task, request.model_type):
        from aligntune_trl.build import build as build_plain

        return build_plain(request)
    if request.model is not None:
        raise ConfigError("Unsloth loads the model itself", 'give model_name, or use backend="trl"', field="model")
    library = unsloth()
    from aligntune_trl.build import build as build_patched
    from aligntune_trl.building import Brought

    from aligntune_unsloth.model import check_cpu, load

    check_cpu(request.config)
    return build_patched(replace(request, model=Brought(partial(load, library.FastLanguageModel))))
