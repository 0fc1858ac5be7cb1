"""What every trainer of this backend shares: a `BackendTrainer` around one of TRL's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PrinterCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from aligntune_core import RunEvents, Sampling, storage_error
from aligntune_trl import loading
from aligntune_trl.arguments import check_read_back, refusals_told, resolved_arguments
from aligntune_trl.building import Loaded
from aligntune_trl.generate import LONGEST_SAMPLE, SAMPLED, answer, conversation, question_of, shown, verbatim
from aligntune_trl.loop import Relay
from aligntune_trl.random_state import RandomState
from aligntune_trl.saving import save_model
from aligntune_trl.tokenise import Tokeniser

log = logging.getLogger("aligntune")


class TrlTrainer:
    """A `BackendTrainer` around one of TRL's trainers.

    Attributes:
        native: TRL's trainer.
        resolved: its arguments, the adapter's and the tokenizer's, read back after construction.

    Args:
        native: TRL's trainer, just constructed.
        loaded: what it was made of.
        wanted: the arguments that it was given.
        preview: rows as they came → as the model sees them.
    """

    def __init__(
        self,
        native: Any,
        loaded: Loaded,
        wanted: Mapping[str, Any],
        preview: Callable[[Sequence[Mapping[str, Any]]], list[Any]],
    ) -> None:
        native.remove_callback(PrinterCallback)
        loading.keep_trained_weights_fp32(native.model)
        self.native, self._loaded, self._preview = native, loaded, preview
        self._request = loaded.request
        check_read_back(wanted, native.args)
        self.resolved = resolved_arguments(native.args) | self._model_facts() | self.facts()
        counts = (f"{self.resolved[name]:,}" for name in ("parameters", "trained_parameters"))
        log.info("%s parameters, %s of them trained, %s", *counts, loaded.precision)

    def facts(self) -> dict[str, Any]:
        """What an algorithm adds to `resolved`."""
        return {}

    def _model_facts(self) -> dict[str, Any]:
        model, tokenizer = self.native.model, self._loaded.tokenizer
        adapters = getattr(model, "peft_config", {})
        quantised = getattr(model.config, "quantization_config", None)
        return {
            "model_dtype": str(model.dtype).removeprefix("torch."),
            "attn_implementation": getattr(model.config, "_attn_implementation", None),
            "quantization": quantised.to_dict() if quantised is not None else None,
            "parameters": model.num_parameters(),
            "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "adapter": next((a.to_dict() for a in adapters.values()), None),
            "chat_template": tokenizer.chat_template if self._loaded.chat else None,
            "eos_token": tokenizer.eos_token,
            "pad_token": tokenizer.pad_token,
        }

    # training

    def train(self, events: RunEvents) -> None:
        """Run TRL's loop.

        Raises:
            ConfigError, BackendUnavailableError: TRL refuses a value of `backend_options` only now.
            DivergedError: from within the step.
            StorageError: a checkpoint could not be written.
        """
        relay = self.relay(events)
        self.native.add_callback(relay)
        try:
            self._loop(events)
            if not events.stopping and self.native.accelerator.is_main_process:
                self._sample(events)
        except (SafetensorError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "inline_container" not in str(error):
                raise
            raise storage_error(self._request.work_dir.parent, error) from error
        except (ValueError, TypeError, NotImplementedError, ImportError):
            untried = self._request.config.backend_options and self.native.state.global_step == 0
            with refusals_told("backend_options" if untried else ""):
                raise
        finally:
            self.native.remove_callback(relay)

    def relay(self, events: RunEvents) -> Relay:
        """What tells core of the loop."""
        return Relay(events, self.native.accelerator)

    def _loop(self, events: RunEvents) -> None:
        """TRL's loop; from a checkpoint of the last step there is none left, where TRL would train one more."""
        if events.resume_from is None:
            self.native.train()
            return
        state = TrainerState.load_from_json(str(events.resume_from / TRAINER_STATE_NAME))
        if state.global_step < state.max_steps:
            self.native.train(resume_from_checkpoint=str(events.resume_from))
            return
        self.native._load_from_checkpoint(str(events.resume_from))  # the library has no public door to this
        self.native.state = state
        events.start(state.max_steps)

    def evaluate(self) -> dict[str, float]:
        """Numbers over the evaluation rows; how training goes on does not depend on it."""
        seen: dict[str, float] = {}
        relay, before = self.relay(_Listening(seen)), RandomState()
        self.native.add_callback(relay)
        try:
            self.native.evaluate()
        finally:
            self.native.remove_callback(relay)
            before.restore()
        return seen

    # answering

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        """An answer for each question: in the chat template for rows of conversations, verbatim for others.

        Raises:
            ConfigError: messages, where the rows have none.
        """
        return self._answer(inputs, Sampling())

    def _answer(self, inputs: Sequence[Any], sampling: Sampling) -> list[Any]:
        texts = [self._question(item) if self._loaded.chat else verbatim(item) for item in inputs]
        tokenizer = self._loaded.tokenizer
        form: dict[str, Any] = {"special_tokens": self._special_tokens, "longest": self._longest}
        return answer(self._model, tokenizer, texts, sampling=sampling, **form)

    @property
    def _longest(self) -> int | None:
        """Tokens at which a question is cut; None: it is not."""
        return None

    @property
    def _special_tokens(self) -> bool:
        """Whether a question gets the tokenizer's own tokens."""
        return not self._loaded.chat

    @property
    def _model(self) -> Any:
        """The model without what several processes wrap around it."""
        return self.native.accelerator.unwrap_model(self.native.model)

    def _question(self, item: Any) -> str:
        messages = conversation(item, self._request.config.system_prompt)
        return Tokeniser(self._loaded.tokenizer, offsets=False).render(messages, ask=True)

    def _sample(self, events: RunEvents) -> None:
        """Answer a few held-back questions, for the report; a failure here must not cost the trained model."""
        rows = self._request.train_rows if self._request.eval_rows is None else self._request.eval_rows
        questions = [question_of(row) for row in rows.select(range(min(SAMPLED, len(rows))))]
        try:
            answers = self._answer(questions, Sampling(max_tokens=LONGEST_SAMPLE))
        except Exception:
            log.warning("no sample generations", exc_info=True)
            return
        for question, text in zip(questions, answers, strict=True):
            events.sample(self.native.state.global_step, shown(question), text)

    # the ends

    def save(self, path: Path) -> None:
        """Write the model, or the adapter, and the tokenizer."""
        if self.native.accelerator.is_main_process:
            trust = self._request.config.trust_remote_code
            save_model(self._model, self._loaded.tokenizer, path, trust_remote_code=trust)
        self.native.accelerator.wait_for_everyone()

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Each row as the model sees it."""
        return self._preview(rows) if rows else []

    def close(self) -> None:
        """Let go of the model."""
        self.native.model = self.native.model_wrapped = self.native.optimizer = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class _Listening:
    """The `RunEvents` of an evaluation outside a run: keeps the numbers."""

    stopping = False

    def __init__(self, into: dict[str, float]) -> None:
        self.resume_from: Path | None = None
        self._into = into

    def metrics(self, step: int, values: Mapping[str, float], *, epoch: float, split: str = "train") -> None:
        self._into.update(values)

    def start(self, steps_planned: int) -> None: ...

    def step(self, step: int) -> None: ...

    def checkpoint(self, step: int, folder: Any) -> None: ...

    def sample(self, step: int, prompt: str, completion: str) -> None: ...
