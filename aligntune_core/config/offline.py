"""The algorithms that learn from rows as they are: answers (SFT) and preferences (DPO, reward models)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from aligntune_core.config.fields import Names, PositiveFloat, PositiveInt
from aligntune_core.config.names import PREFERENCE_LOSSES
from aligntune_core.config.settings import HF, Group, TrainingConfig, choices_of, setting
from aligntune_core.errors import Problem


class SequenceSettings(Group):
    title = "Data"

    max_seq_length: PositiveInt = setting(
        1024, "Longest row, in tokens; longer ones are cut at the end.", "TRL's SFTConfig"
    )


class AnswerSettings(SequenceSettings):
    title = "Data"

    packing: bool = setting(
        False, "Put several short rows into one sequence; refused where rows could see each other.", HF
    )
    streaming: bool = setting(
        False, "Read rows while they are trained, so that memory does not grow with their number; needs max_steps."
    )
    assistant_only_loss: bool | None = setting(
        None, "Train the answers only; unset: yes where a row has a question and an answer."
    )


class PreferenceSettings(SequenceSettings):
    title = "Preferences"

    beta: PositiveFloat = setting(
        0.1, "How strongly the policy is held to the reference model.", "Rafailov et al. 2023, arXiv:2305.18290"
    )
    loss_type: Annotated[Names, choices_of(*PREFERENCE_LOSSES, kind="the losses are"), Field(min_length=1)] = setting(
        ("sigmoid",), "The loss; several are summed, with loss_weights in backend_options.", "arXiv:2305.18290, eq. 7"
    )


class SftConfig(AnswerSettings, TrainingConfig):
    """Supervised fine-tuning."""

    algorithm = "sft"
    learning_rates = (
        2e-5,
        2e-4,
        "full: TRL's SFTConfig and Stanford Alpaca; LoRA: Dettmers et al. 2023, arXiv:2305.14314, table 9",
    )

    def coupled(self) -> list[Problem]:
        """What rows that are read one after the other do not allow."""
        if not self.streaming:
            return []
        found = []
        if self.max_steps is None:
            text = "the number of rows is not known, so epochs cannot be counted"
            found.append(Problem.of("max_steps", text, "set it, or leave out streaming", value=None))
        reasons = {
            "eval_fraction": "cannot be drawn from rows that are streamed",
            "packing": "cannot be combined with streaming",
            "dataset_weights": "cannot be combined with streaming",
        }
        remedies = {"eval_fraction": "give a second data set as eval_dataset_name"}
        return found + [
            Problem.of(name, text, remedies.get(name, "leave out one of the two"), value=getattr(self, name))
            for name, text in reasons.items()
            if getattr(self, name)
        ]


class DpoConfig(PreferenceSettings, TrainingConfig):
    """Direct preference optimisation."""

    algorithm = "dpo"
    rows = "preferences"
    learning_rates = (
        1e-6,
        1e-5,
        "full: TRL's DPOConfig and arXiv:2305.18290, appendix B; LoRA: ten times that, as TRL",
    )

    num_epochs: PositiveFloat = setting(1.0, "Passes over the data.", "arXiv:2305.18290, section 6")


class RewardModelConfig(SequenceSettings, TrainingConfig):
    """A reward model from preferences."""

    algorithm = "reward"
    rows = "preferences"
    learning_rates = (1e-5, 1e-4, "full: Ouyang et al. 2022, arXiv:2203.02155, appendix C.2; LoRA: TRL's RewardConfig")

    num_epochs: PositiveFloat = setting(1.0, "Passes over the data.", "Ouyang et al. 2022, arXiv:2203.02155, C.2")
    batch_size: PositiveInt = setting(8, "Pairs per device and forward pass.")
    gradient_accumulation_steps: PositiveInt = setting(2, "Forward passes per optimiser step.")
