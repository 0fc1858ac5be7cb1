"""NEFTune's training: supervised fine-tuning with noisy embeddings (Jain et al. 2023, arXiv:2310.05914).

L is the number of the row's own tokens, and padding gets no noise: so it is in the code of the paper's experiments
(github.com/neelsjain/NEFTune, experiment_code/train.py), and so a row's noise does not depend on what it is batched
with. Transformers and TRL take the width of the padded batch, like the snippet in the authors' README.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from aligntune_torch.neftune import NeftuneConfig
from aligntune_torch.trainer import SftTrainer


def add_noise(embedded: torch.Tensor, mask: torch.Tensor, alpha: float) -> torch.Tensor:
    """Add uniform noise within ±alpha / sqrt(L d).

    Args:
        embedded: (rows, tokens, d).
        mask: (rows, tokens), 1 where a token is none of padding.
        alpha: the scale.
    """
    lengths = mask.sum(dim=1).view(-1, 1, 1)
    scale = alpha / torch.sqrt(lengths * embedded.shape[-1])
    return embedded + torch.empty_like(embedded).uniform_(-1, 1) * scale * mask.unsqueeze(-1)


class NeftuneTrainer(SftTrainer):
    """`SftTrainer` but for what the model is called with, in training only."""

    settings: ClassVar[frozenset[str]] = SftTrainer.settings | {"neftune_noise_alpha"}
    config: NeftuneConfig

    def inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The embeddings of the tokens with noise, instead of the tokens."""
        inputs = super().inputs(batch)
        if not self.model.training:
            return inputs
        embedded = self.model.get_input_embeddings()(inputs.pop("input_ids"))
        noisy = add_noise(embedded, inputs["attention_mask"], self.config.neftune_noise_alpha)
        return {**inputs, "inputs_embeds": noisy}
