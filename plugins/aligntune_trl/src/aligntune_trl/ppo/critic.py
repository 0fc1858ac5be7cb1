"""PPO's critic: what it is made of, how it learns, and how it is kept.

"model": a copy of the policy's backbone as it is when training begins, with a linear head. "head": a linear head on the
policy's own hidden states, which it does not change. Neither is ever part of the policy's model: what is saved, merged
or sent to a generation server stays the policy alone.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from aligntune_core import ConfigError, DivergedError

Kind = Literal["model", "head"]
WEIGHTS, OPTIMIZER = "critic.safetensors", "optimizer.pt"


def backbone_of(policy: Any) -> Any:
    """The part of a causal model that gives hidden states, adapters included."""
    causal = policy.get_base_model() if isinstance(policy, PeftModel) else policy
    return causal.base_model


def before_actions(hidden: Tensor, length: int) -> Tensor:
    """The states from which the last `length` tokens were chosen: (rows, all tokens, …) to (rows, length, …)."""
    return hidden[:, -length - 1 : -1]


class ValueHead(nn.Linear):
    """One number a token. It begins at zero, so before it has learned anything it says nothing.

    It computes in fp32 whatever the precision of the rest.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__(width, 1, device=device, dtype=torch.float32)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            value: Tensor = super().forward(hidden.to(self.weight.dtype))
            return value.squeeze(-1)


class ModelCritic(nn.Module):
    """A backbone of its own and a head."""

    def __init__(self, backbone: Any, device: torch.device) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = ValueHead(backbone.config.get_text_config().hidden_size, device)
        self._takes_positions = "position_ids" in inspect.signature(backbone.forward).parameters

    def forward(self, ids: Tensor, mask: Tensor, length: int, hidden: Tensor | None = None) -> Tensor:
        """Values (rows, length) of the states before each of the last `length` tokens; padding may be on the left."""
        options: dict[str, Any] = {"use_cache": False}
        if self._takes_positions:
            options["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        states = self.backbone(input_ids=ids, attention_mask=mask, **options)[0]
        values: Tensor = self.head(before_actions(states, length))
        return values


class HeadCritic(nn.Module):
    """A head that reads the policy's hidden states: those given, or those of a forward pass without gradients."""

    def __init__(self, policy: Any, device: torch.device) -> None:
        super().__init__()
        backbone = backbone_of(policy)
        self.head = ValueHead(backbone.config.get_text_config().hidden_size, device)
        self._policy = (backbone,)  # in a tuple it does not become a part of this module

    def forward(self, ids: Tensor, mask: Tensor, length: int, hidden: Tensor | None = None) -> Tensor:
        """Values (rows, length), as `ModelCritic` gives them."""
        if hidden is None:
            with torch.no_grad():
                hidden = self._policy[0](input_ids=ids, attention_mask=mask, use_cache=False)[0]
        values: Tensor = self.head(before_actions(hidden, length))
        return values


def _copy_of(policy: Any, adapter: LoraConfig | None) -> Any:
    """A backbone that gives the policy's hidden states: its adapters merged, trained as a whole or by an adapter."""
    if getattr(policy, "hf_quantizer", None) is not None:
        problem = "a copy of a quantised model cannot be trained as a critic"
        raise ConfigError(problem, "set critic: head", field="critic", value="model")
    copied = copy.deepcopy(policy)
    if isinstance(copied, PeftModel):
        copied = copied.merge_and_unload()
    copied.requires_grad_(adapter is None)
    if adapter is not None:
        inject_adapter_in_model(copy.deepcopy(adapter), copied)
    return copied.base_model


def _without_dropout(module: nn.Module) -> None:
    """A value must not depend on chance; some layers hold their dropout as a number instead of a module."""
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        for name, value in list(vars(part).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, 0.0)


def _model_critic(policy: Any, adapter: LoraConfig | None, args: Any, device: torch.device) -> ModelCritic:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # sampling is the same with any critic
        torch.manual_seed(args.seed)
        backbone = _copy_of(policy, adapter)
    _without_dropout(backbone)
    for parameter in backbone.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()  # small updates would be lost
    if args.gradient_checkpointing:
        backbone.gradient_checkpointing_enable({"use_reentrant": False})
    return ModelCritic(backbone, device)


def _own_adapter(policy: Any, given: LoraConfig | None) -> LoraConfig | None:
    if given is not None or not isinstance(policy, PeftModel):
        return given
    config: LoraConfig = policy.peft_config[policy.active_adapter]
    return config


class Critic:
    """A critic with its optimiser, which steps when the policy's does and follows the shape of its schedule.

    Args:
        kind: "model" or "head".
        policy: the policy, unwrapped, on its device.
        learning_rate: the critic's peak rate.
        adapter: LoRA for a "model"; None: as the policy has, that is none where it is trained as a whole.
        args: the policy's training arguments: AdamW's betas, epsilon and weight decay, max_grad_norm,
            gradient_checkpointing and seed are the critic's too.
        accelerator: of the trainer.

    Raises:
        ConfigError: "model" on a quantised base.
    """

    def __init__(
        self, kind: Kind, policy: Any, *, learning_rate: float, adapter: LoraConfig | None, args: Any, accelerator: Any
    ) -> None:
        self.kind, self._args, self._accelerator = kind, args, accelerator
        self._learning_rate = learning_rate
        device = accelerator.device
        self.module: nn.Module = (
            _model_critic(policy, _own_adapter(policy, adapter), args, device)
            if kind == "model"
            else HeadCritic(policy, device)
        )
        self.module.train(args.gradient_checkpointing)  # layers are checkpointed in this mode only
        self._trained = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        several = accelerator.num_processes > 1
        self._wrapped: Any = DistributedDataParallel(self.module, broadcast_buffers=False) if several else self.module
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self._trained.values() if p.ndim > 1], "weight_decay": args.weight_decay},
                {"params": [p for p in self._trained.values() if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=learning_rate,
            betas=(args.adam_beta1, args.adam_beta2),
            eps=args.adam_epsilon,
            fused=True,
        )

    @contextlib.contextmanager
    def listening(self, policy: Any) -> Iterator[list[Tensor]]:
        """Collect the hidden states of the policy's forward passes, detached, where a "head" is to learn from them."""
        heard: list[Tensor] = []
        if self.kind == "model":
            yield heard
            return
        hook = backbone_of(policy).register_forward_hook(lambda module, given, output: heard.append(output[0].detach()))
        try:
            yield heard
        finally:
            hook.remove()

    @torch.no_grad()
    def values(self, ids: Tensor, mask: Tensor, length: int, rows_at_once: int) -> Tensor:
        """Values (rows, length) of a rollout, computed a few rows at a time."""
        parts = [slice(first, first + rows_at_once) for first in range(0, len(ids), rows_at_once)]
        with self._accelerator.autocast():
            return torch.cat([self.module(ids[part], mask[part], length) for part in parts])

    def learn(
        self, ids: Tensor, mask: Tensor, length: int, hidden: Tensor | None, loss: Callable[[Tensor], Tensor]
    ) -> None:
        """Add the gradient of `loss(values)`; processes share gradients only in the last such pass of an update."""
        waits = self._wrapped is not self.module and not self._accelerator.sync_gradients
        with self._wrapped.no_sync() if waits else contextlib.nullcontext():
            with self._accelerator.autocast():
                values = self._wrapped(ids, mask, length, hidden)
            torch.autograd.backward(loss(values))

    def step(self, step: int, share: float) -> float:
        """Update the weights.

        Args:
            step: the number of the update, for errors.
            share: which part of its peak the policy's learning rate is at.

        Returns:
            The gradient's norm before clipping.

        Raises:
            DivergedError: it is not finite; nothing was updated.
        """
        limit = self._args.max_grad_norm if self._args.max_grad_norm > 0 else math.inf
        norm = float(nn.utils.clip_grad_norm_(self._trained.values(), limit))
        if not math.isfinite(norm):
            raise DivergedError.at(step, "critic_grad_norm", norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate * share
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def save(self, folder: Path) -> None:
        """Write the trained weights and the optimiser's state; what is frozen is the policy's, as training began."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: p.detach().contiguous() for name, p in self._trained.items()}
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt", "critic": self.kind})
        torch.save(self.optimizer.state_dict(), folder / OPTIMIZER)

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            ConfigError: nothing is there, or a critic of another kind or shape.
        """
        if not (folder / WEIGHTS).is_file():
            problem = "this checkpoint has no critic"
            raise ConfigError(
                problem, "resume from one of PPO, or start anew", field="resume", value=str(folder.parent)
            )
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            kind = (file.metadata() or {}).get("critic")
        weights = load_file(folder / WEIGHTS)
        shapes = {name: tensor.shape for name, tensor in weights.items()}
        if kind != self.kind or shapes != {name: p.shape for name, p in self._trained.items()}:
            problem = f"the checkpoint's critic is critic: {kind}" + (
                "" if kind != self.kind else " with other weights"
            )
            remedy = "resume with the settings of the run, or start anew"
            raise ConfigError(problem, remedy, field="critic", value=self.kind)
        self.module.load_state_dict(weights, strict=False)
        self.optimizer.load_state_dict(torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True))
