"""Supervised fine-tuning as a loop that can be read: the `BackendTrainer` that core drives."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch.nn.functional import cross_entropy

from aligntune_core import ConfigError, DivergedError, RunEvents, TrainRequest
from aligntune_core.config import SftConfig
from aligntune_torch.checkpoint import load_state, save_state
from aligntune_torch.model import answer, load_model, load_tokenizer, save_model, use_bf16
from aligntune_torch.plugin import SETTINGS
from aligntune_torch.rows import Tokens, collate, render, tokenise, tokenise_all


@dataclass(slots=True)
class Window:
    """Sums since the last row of metrics. Checkpoints keep them, so a resumed run reports what a whole one does."""

    loss: float = 0.0
    trained: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def means(self) -> dict[str, float]:
        return {"loss": self.loss / self.trained, "tokens_per_second": self.tokens / self.seconds}


class SftTrainer:
    """Trains all weights with AdamW, a linear warm-up and a cosine.

    Args:
        request: settings and rows, checked by core; core also keeps the run folder and calls the methods below.

    Attributes:
        resolved: every claimed setting and what else decides the run; `run.json` keeps it.
        native: the library's own trainer, for users who need it; here there is none but this.

    Raises:
        ConfigError, DataError: what only the model or its tokenizer can tell.
    """

    settings: ClassVar[frozenset[str]] = SETTINGS

    def __init__(self, request: TrainRequest) -> None:
        self.request, self.config = request, (config := cast("SftConfig", request.config))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.bf16 = use_bf16(config, self.device)
        self.tokenizer = load_tokenizer(request)
        self.rows = tokenise_all(self.tokenizer, request.train_rows, config.max_seq_length)
        self.eval_rows = tokenise_all(self.tokenizer, request.eval_rows, config.max_seq_length)
        self.model = load_model(request).to(self.device)
        self._check_lengths()
        self.optimizer = self._make_optimizer()
        self.rows_per_step = config.batch_size * config.gradient_accumulation_steps
        self.steps_per_epoch = math.ceil(len(self.rows) / self.rows_per_step)
        self.steps_planned = config.max_steps or math.ceil(config.num_epochs * self.steps_per_epoch)
        self.step, self.window = 0, Window()
        self.native = self
        self.resolved: Mapping[str, Any] = {name: getattr(config, name) for name in sorted(self.settings)} | {
            "precision": "bf16" if self.bf16 else "fp32",
            "optimizer": "adamw_torch_fused",
            "lr_scheduler": "cosine",
            "steps_planned": self.steps_planned,
            "device": self.device.type,
        }

    def _check_lengths(self) -> None:
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or math.inf
        longest = max(len(row.input_ids) for row in [*self.rows, *self.eval_rows])
        if longest > positions:
            problem = f"a row has {longest} tokens, and the model has {positions} positions"
            raise ConfigError(problem, f"set max_seq_length: {positions}", field="max_seq_length", value=longest)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW; biases and the weights of norms, which have one dimension, are not decayed, as in transformers."""
        weights = [p for p in self.model.parameters() if p.requires_grad]
        decayed = {"params": [p for p in weights if p.ndim >= 2], "weight_decay": self.config.weight_decay}
        others = {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0}
        return torch.optim.AdamW([decayed, others], betas=(0.9, 0.999), eps=1e-8, fused=True)

    def learning_rate_at(self, step: int) -> float:
        """The rate of a step; the first is 1. It is that of transformers' cosine schedule."""
        given, peak, done = self.config.warmup_steps, self.config.learning_rate or 0.0, step - 1
        warmup = int(given) if given >= 1 else math.ceil(given * self.steps_planned)
        if done < warmup:
            return peak * done / warmup
        return peak * 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1, self.steps_planned - warmup)))

    def rows_of(self, step: int) -> list[Tokens]:
        """The rows of a step. Their order comes from seed and epoch alone, so a resumed run needs no state for it."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(self.config.seed + epoch))
        start = place * self.rows_per_step
        return [self.rows[i] for i in order[start : start + self.rows_per_step].tolist()]

    def train(self, events: RunEvents) -> None:
        """Run the loop from the start, or from `events.resume_from`, and tell `events` what happens.

        Raises:
            DivergedError: a loss or a gradient is not finite; that step was not applied.
            StorageError: a checkpoint could not be written.
        """
        self._begin(events.resume_from)
        events.start(self.steps_planned)
        for step in range(self.step + 1, self.steps_planned + 1):
            norm = self._train_step(step)
            events.step(step)
            last, stopping, epoch = step == self.steps_planned, events.stopping, step / self.steps_per_epoch
            if last or step % self.config.logging_steps == 0:
                values = {"learning_rate": self.learning_rate_at(step), "grad_norm": norm}
                events.metrics(step, self.window.means() | values, epoch=epoch)
                self.window = Window()
            if self.eval_rows and self._evaluates_after(step):
                events.metrics(step, self.evaluate(), epoch=epoch, split="eval")
            if last or stopping or step % self.config.save_steps == 0:
                self._checkpoint(events)
            if stopping:
                return

    def _begin(self, checkpoint: Path | None) -> None:
        """Start anew, or bring everything back as it was after the checkpoint's step."""
        self.step, self.window = 0, Window()
        torch.manual_seed(self.config.seed)
        if checkpoint is not None:
            saved = type(self.model).from_pretrained(checkpoint, dtype=self.model.dtype, use_safetensors=True)
            self.model.load_state_dict(saved.state_dict())
            progress = load_state(checkpoint, self.optimizer)
            self.step, self.window = progress["step"], Window(**progress["window"])

    def _train_step(self, step: int) -> float:
        """One step of the optimizer over all its batches; returns the norm of the gradient."""
        began, rows, size = time.perf_counter(), self.rows_of(step), self.config.batch_size
        total, trained = 0.0, sum(row.trained for row in rows)
        self.model.train()
        self.optimizer.zero_grad()
        for start in range(0, len(rows), size):
            loss = self.loss(collate(rows[start : start + size], self.device))
            (loss / trained).backward()  # type: ignore[no-untyped-call]  # the mean over the tokens of the whole step
            total += loss.item()
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm or math.inf))
        for name, value in (("loss", total / trained), ("grad_norm", norm)):
            if not math.isfinite(value):
                raise DivergedError.at(step, name, value)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate_at(step)
        self.optimizer.step()
        self.step = step
        self.window.loss += total
        self.window.trained += trained
        self.window.tokens += sum(len(row.input_ids) for row in rows)
        self.window.seconds += time.perf_counter() - began
        return norm

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The summed loss of a batch's trained tokens: each is predicted from the tokens before it."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model(**self.inputs(batch), use_cache=False).logits
        return cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch["labels"][:, 1:].flatten(), reduction="sum")

    def inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the model is called with; an algorithm that changes it overrides this method."""
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}

    def _evaluates_after(self, step: int) -> bool:
        """Each `eval_steps`; unset: at the end of each epoch, and of the run."""
        if self.config.eval_steps:
            return step % self.config.eval_steps == 0
        return step % self.steps_per_epoch == 0 or step == self.steps_planned

    def _checkpoint(self, events: RunEvents) -> None:
        """Write all of it into `work_dir`; core hashes it, moves it into the run folder and drops the oldest."""
        folder = self.request.work_dir / f"checkpoint-{self.step}"
        save_model(self.model, self.tokenizer, folder)
        save_state(folder, self.optimizer, {"step": self.step, "window": asdict(self.window)})
        events.checkpoint(self.step, folder)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean loss over the tokens of the evaluation rows, whatever the batch size, and its exponential."""
        self.model.eval()
        size = self.config.eval_batch_size or self.config.batch_size
        starts = range(0, len(self.eval_rows), size)
        total = sum(self.loss(collate(self.eval_rows[s : s + size], self.device)).item() for s in starts)
        mean = total / sum(row.trained for row in self.eval_rows)
        return {"loss": mean, "perplexity": math.exp(min(mean, 700.0))}

    def predict(self, inputs: Sequence[Any]) -> list[str]:
        """An answer for each question: in the chat template where the rows are conversations, else verbatim.

        Raises:
            ConfigError: messages, where the rows have none.
        """
        self.model.eval()
        plain = self.request.row_format != "messages"
        return [answer(self.model, self.tokenizer, self.question(item), special_tokens=plain) for item in inputs]

    def question(self, item: Any) -> str:
        """The text that the model goes on from."""
        if self.request.row_format != "messages":
            if isinstance(item, str):
                return item
            raise ConfigError(f"is a {type(item).__name__}", "pass text: the rows are plain text", field="inputs")
        messages = [{"role": "user", "content": item}] if isinstance(item, str) else list(item)
        if self.config.system_prompt and messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": self.config.system_prompt})
        return render(self.tokenizer, messages, ask=True)

    def save(self, path: Path) -> None:
        """Write the model as it is now.

        Raises:
            StorageError: it is not whole afterwards.
        """
        save_model(self.model, self.tokenizer, path)

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Tokens]:
        """The rows' tokens and labels, cut as in training."""
        return [tokenise(self.tokenizer, row, self.config.max_seq_length) for row in rows]
