"""Supervised fine-tuning through TRL's SFTTrainer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aligntune_core import BackendUnavailableError, ConfigError, RunEvents, TrainRequest, storage_error
from aligntune_core.config import TrainingConfig
from aligntune_trl.quiet import hush, hush_handlers

hush()

import torch  # noqa: E402 - after telemetry is off
import trl  # noqa: E402
from safetensors import SafetensorError  # noqa: E402
from transformers import PrinterCallback, TrainerState, set_seed  # noqa: E402
from transformers.trainer import TRAINER_STATE_NAME  # noqa: E402

from aligntune_trl import loading  # noqa: E402
from aligntune_trl.arguments import (  # noqa: E402
    check_optimiser,
    check_read_back,
    make_arguments,
    resolved_arguments,
    sft_arguments,
    training_arguments,
    with_options,
)
from aligntune_trl.generate import LONGEST_SAMPLE, SAMPLED, answer, end_ids, question_of  # noqa: E402
from aligntune_trl.loop import Relay, guarded  # noqa: E402
from aligntune_trl.packing import check_rows_stay_apart, pack  # noqa: E402
from aligntune_trl.saving import save_model  # noqa: E402
from aligntune_trl.tokenise import Tokeniser, tokenise_dataset  # noqa: E402

log = logging.getLogger("aligntune")


def check_clean() -> None:
    """Refuse a process in which something has replaced TRL's classes.

    Raises:
        BackendUnavailableError: training here would not be TRL's.
    """
    home = trl.SFTTrainer.__module__
    if home != "trl.trainer.sft_trainer" or trl.SFTConfig.__module__ != "trl.trainer.sft_config":
        remedy = "start a fresh Python process for this backend"
        raise BackendUnavailableError(f"TRL was patched in this process ({home})", remedy, field="backend", value="trl")


class SftTrainer:
    """A `BackendTrainer` around TRL's SFTTrainer.

    Attributes:
        native: TRL's trainer.
        resolved: its arguments, the adapter's and the tokenizer's, read back after construction.
    """

    def __init__(self, native: Any, request: TrainRequest, tokeniser: Tokeniser, wanted: Mapping[str, Any]) -> None:
        self.native = native
        self._request, self._tokeniser = request, tokeniser
        check_read_back(wanted, native.args)
        self.resolved = resolved_arguments(native.args) | self._model_facts()

    def _model_facts(self) -> dict[str, Any]:
        model, tokenizer = self.native.model, self._tokeniser.tokenizer
        adapters = getattr(model, "peft_config", {})
        quantised = getattr(model.config, "quantization_config", None)
        return {
            "model_dtype": str(model.dtype).removeprefix("torch."),
            "attn_implementation": getattr(model.config, "_attn_implementation", None),
            "quantization": quantised.to_dict() if quantised is not None else None,
            "parameters": model.num_parameters(),
            "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "adapter": next((a.to_dict() for a in adapters.values()), None),
            "chat_template": tokenizer.chat_template if self._request.row_format == "messages" else None,
            "eos_token": tokenizer.eos_token,
            "pad_token": tokenizer.pad_token,
        }

    def train(self, events: RunEvents) -> None:
        """Run TRL's loop.

        Raises:
            DivergedError: from within the step.
            StorageError: a checkpoint could not be written.
        """
        relay = Relay(events, self.native.accelerator)
        self.native.add_callback(relay)
        try:
            self._loop(events)
            if not events.stopping and self.native.accelerator.is_main_process:
                self._sample(events)
        except (SafetensorError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "inline_container" not in str(error):
                raise
            raise storage_error(self._request.work_dir.parent, error) from error
        finally:
            self.native.remove_callback(relay)

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
        """Numbers over the evaluation rows."""
        seen: dict[str, float] = {}
        relay = Relay(_Listening(seen), self.native.accelerator)
        self.native.add_callback(relay)
        try:
            self.native.evaluate()
        finally:
            self.native.remove_callback(relay)
        return seen

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        """An answer for each question: in the chat template for rows of messages, verbatim for others.

        Raises:
            ConfigError: messages, where the rows have none.
        """
        return self._answer(inputs, None)

    def _answer(self, inputs: Sequence[Any], longest: int | None) -> list[Any]:
        chat = self._request.row_format == "messages"
        texts = [self._question(item) if chat else _verbatim(item) for item in inputs]
        return answer(self._model, self._tokeniser.tokenizer, texts, special_tokens=not chat, longest=longest)

    @property
    def _model(self) -> Any:
        """The model without what several processes wrap around it."""
        return self.native.accelerator.unwrap_model(self.native.model)

    def _sample(self, events: RunEvents) -> None:
        """Answer a few held-back questions, for the report; a failure here must not cost the trained model."""
        rows = self._request.train_rows if self._request.eval_rows is None else self._request.eval_rows
        questions = [question_of(row) for row in rows.select(range(min(SAMPLED, len(rows))))]
        try:
            answers = self._answer(questions, LONGEST_SAMPLE)
        except Exception:
            log.warning("no sample generations", exc_info=True)
            return
        for question, text in zip(questions, answers, strict=True):
            asked = question if isinstance(question, str) else question[-1]["content"]
            events.sample(self.native.state.global_step, asked, text)

    def _question(self, item: Any) -> str:
        system = self._request.config.system_prompt
        messages = [{"role": "user", "content": item}] if isinstance(item, str) else list(item)
        if system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        return self._tokeniser.render(messages, ask=True)

    def save(self, path: Any) -> None:
        """Write the model, or the adapter, and the tokenizer."""
        if self.native.accelerator.is_main_process:
            trust = self._request.config.trust_remote_code
            save_model(self._model, self._tokeniser.tokenizer, path, trust_remote_code=trust)
        self.native.accelerator.wait_for_everyone()

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The rows' tokens and labels, cut as in training."""
        longest = self._request.config.max_seq_length
        return [tokens.cut(longest) for tokens in self._tokeniser(rows)] if rows else []

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


def _verbatim(item: Any) -> str:
    if not isinstance(item, str):
        remedy = "pass text; the rows that were trained are plain text"
        raise ConfigError(f"is a {type(item).__name__}", remedy, field="inputs")
    return item


def _tokenizer_name(config: TrainingConfig, model: Any) -> str:
    name = config.model_name or getattr(getattr(model, "config", None), "_name_or_path", "")
    if not name:
        remedy = "give the model's folder or hub name too, for its tokenizer"
        raise ConfigError("is missing beside an open model", remedy, field="model_name")
    return str(name)


def _model(request: TrainRequest, precision: str) -> Any:
    if request.model is not None:
        return request.model
    set_seed(request.config.seed)
    return loading.load_model(request.config, precision)


def _answers_only(config: TrainingConfig) -> bool:
    return config.assistant_only_loss is not False


def build_sft(request: TrainRequest) -> SftTrainer:
    """Load the model, tokenise the rows, and construct TRL's trainer.

    Raises:
        ConfigError, DataError: what only the library, the model or the tokenizer can tell.
    """
    config = request.config
    check_clean()
    hush_handlers()
    with_options({}, config.backend_options, trl.SFTConfig)  # before anything is loaded
    loading.use_one_gpu(request.environment)
    precision = loading.precision_of(config)
    tokenizer = loading.load_tokenizer(config, _tokenizer_name(config, request.model))
    tokeniser = Tokeniser(tokenizer, answers_only=_answers_only(config))
    train = tokenise_dataset(request.train_rows, tokeniser, config.max_seq_length, "dataset_name")
    held_back = None
    if request.eval_rows is not None:
        held_back = tokenise_dataset(request.eval_rows, tokeniser, config.max_seq_length, "eval_dataset_name")
    model = _model(request, precision)
    if ends := end_ids(model, tokenizer, chat=request.row_format == "messages"):
        model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    loading.check_lengths(model, train)
    if config.packing:
        check_rows_stay_apart(model, train)
        train = pack(train, config.max_seq_length)
    wanted = with_options(
        training_arguments(
            config,
            work_dir=request.work_dir,
            precision=precision,
            gradient_checkpointing=loading.checkpoints_gradients(config, model),
            evaluates=held_back is not None,
        )
        | sft_arguments(config),
        config.backend_options,
        trl.SFTConfig,
    )
    arguments = make_arguments(trl.SFTConfig, wanted, config.backend_options)
    check_optimiser(arguments)
    native = guarded(trl.SFTTrainer)(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=held_back,
        processing_class=tokenizer,
        peft_config=loading.lora_config(config, model),
    )
    native.remove_callback(PrinterCallback)
    loading.keep_trained_weights_fp32(native.model)
    trainer = SftTrainer(native, request, tokeniser, wanted)
    counts = (f"{trainer.resolved[name]:,}" for name in ("parameters", "trained_parameters"))
    log.info("%s parameters, %s of them trained, %s", *counts, precision)
    return trainer
