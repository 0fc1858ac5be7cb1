"""NEFTune as core hears of it: an algorithm that core does not know, with a setting of its own.

A backend may bring an algorithm: a config class for its settings, and `about` for what a user reads of it.
Like `plugin`, this module imports nothing heavy; the training is in `neftune_trainer`.
"""

from __future__ import annotations

from dataclasses import replace

from aligntune_core import Algorithm, AlgorithmSupport
from aligntune_core.config import PositiveFloat, SftConfig, setting

PAPER = "Jain et al. 2023, arXiv:2310.05914"


class NeftuneConfig(SftConfig):
    """The settings of SFT and one more; its flag is `--neftune-noise-alpha`."""

    algorithm = "neftune"
    title = "NEFTune"

    neftune_noise_alpha: PositiveFloat = setting(
        5.0, "Scale of the noise on the embeddings; the paper tries 5, 10 and 15.", PAPER
    )


def neftune_support(sft: AlgorithmSupport) -> AlgorithmSupport:
    """The same cells and settings as SFT, and the setting of its own."""
    return replace(
        sft,
        algorithm="neftune",
        settings=sft.settings | {"neftune_noise_alpha"},
        config=NeftuneConfig,
        about=Algorithm(
            name="neftune",
            title="NEFTune",
            summary="Supervised fine-tuning with noise on the embeddings, so that answers are learnt less by rote.",
            paper=PAPER,
            formula="e + alpha / sqrt(L d) * u, u ~ Uniform(-1, 1): L tokens of the row, d the width of an embedding",
        ),
    )
