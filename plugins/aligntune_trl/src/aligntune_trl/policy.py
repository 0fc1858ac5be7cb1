"""GRPO, GSPO, DAPO and Dr. GRPO: presets of TRL's GRPOTrainer, every field of which is pinned."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import trl
from peft import PeftModel
from transformers import PreTrainedModel

from aligntune_core import ConfigError, DataError, RunEvents, TrainRequest
from aligntune_core.config import GrpoConfig, RolloutConfig
from aligntune_core.rewards.values import ROW
from aligntune_trl import building, loading, scoring
from aligntune_trl.base import TrlTrainer
from aligntune_trl.building import Loaded
from aligntune_trl.dynamic import with_dynamic_sampling
from aligntune_trl.evaluation import per_row
from aligntune_trl.loop import guarded
from aligntune_trl.prompts import PromptTokeniser, mended
from aligntune_trl.rollouts import Failures, ModelScorer, RolloutRelay, Scorer, with_rewards


def rollout_arguments(config: RolloutConfig) -> dict[str, Any]:
    """The arguments of GRPOConfig that every such algorithm shares."""
    return {
        "num_generations": config.num_generations,
        "num_generations_eval": 1,
        "num_iterations": config.num_iterations,
        "steps_per_generation": config.generation_steps,
        "max_completion_length": config.max_completion_length,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "epsilon": config.epsilon,
        "epsilon_high": config.epsilon if config.epsilon_high is None else config.epsilon_high,
        "delta": None,
        "multi_objective_aggregation": "sum_then_normalize",
        "top_entropy_quantile": 1.0,
        "entropy_coef": 0.0,
        "use_adaptive_entropy": False,
        "off_policy_mask_threshold": None,
        "use_bias_correction_kl": False,
        "sync_ref_model": False,
        "shuffle_dataset": True,
        "disable_dropout": True,
        "remove_unused_columns": False,
        "log_completions": False,
        "trust_remote_code": config.trust_remote_code,
        **config.pinned,
    }


def group_arguments(config: GrpoConfig) -> dict[str, Any]:
    """The arguments of GRPOConfig for algorithms that compare the answers to one prompt."""
    return {
        "beta": config.beta,
        "scale_rewards": config.scale_rewards,
        "mask_truncated_completions": config.mask_truncated_completions,
    }


class PolicyTrainer(TrlTrainer):
    """A `BackendTrainer` of a policy that learns from rewards."""

    def facts(self) -> dict[str, Any]:
        config = cast("RolloutConfig", self._request.config)
        rewards = [f"{reward.source} × {reward.weight:g}" for reward in self._request.rewards]
        return {
            "rewards": rewards,
            "reward_model": config.reward_model_name,
            "reward_timeout": config.reward_timeout,
            "reward_weights": self.native.reward_weights.tolist(),
            "dynamic_sampling_attempts": getattr(config, "dynamic_sampling_attempts", None),
        }

    def _loop(self, events: RunEvents) -> None:
        """A loop begins with a rollout of its own: what an earlier one left half used is of other weights."""
        self.native._step, self.native._buffered_inputs = 0, None
        super()._loop(events)

    def close(self) -> None:
        """Let go of the model, the reference, the reward model and the last rollout."""
        self.native.ref_model = self.native._buffered_inputs = None
        self.native.reward_funcs = []
        super().close()

    def relay(self, events: RunEvents) -> RolloutRelay:
        return RolloutRelay(events, self.native, cast("RolloutConfig", self._request.config).rollout_steps)


def check_prompts(loaded: Loaded, model: Any, tokeniser: PromptTokeniser, longest: int) -> None:
    """Refuse prompts that no answer can follow, those of the evaluation rows too.

    Raises:
        ConfigError, DataError: with the row and the numbers.
    """
    if loaded.tokenizer.eos_token_id is None:
        problem = "its tokenizer has no end-of-sequence token, so no answer could end"
        raise ConfigError(problem, "give a model whose tokenizer has one", field="model_name", value=_named(loaded))
    request = loaded.request
    for rows, field in ((request.train_rows, "dataset_name"), (request.eval_rows, "eval_dataset_name")):
        if rows is not None:
            tokens = [t.input_ids for t in tokeniser(list(rows))]
            _check_tokens(loaded, tokens, rows, field)
            loading.check_embeddings(model, tokens)
            _check_room(model, tokens, rows, longest, "row" if field == "dataset_name" else "evaluation row")


def _named(loaded: Loaded) -> str:
    return loaded.request.config.model_name or str(loaded.tokenizer.name_or_path)


def _check_tokens(loaded: Loaded, tokens: Sequence[Sequence[int]], rows: Any, field: str) -> None:
    """Refuse prompts without a token: there is nothing to go on from."""
    empty = [rows[index][ROW] for index, ids in enumerate(tokens) if not ids]
    if not empty:
        return
    if loaded.chat:
        template = loaded.tokenizer.chat_template
        problem = f"it writes nothing for the prompt of row {empty[0]}"
        raise ConfigError(problem, "mend the template", field="chat_template", value=template)
    problem = f"row {empty[0]}: the prompt is empty, and the tokenizer begins no text with a token of its own"
    raise DataError(problem, "remove such rows", field=field, value=getattr(loaded.request.config, field))


def _check_room(model: Any, tokens: Sequence[Sequence[int]], rows: Any, longest: int, what: str) -> None:
    """Refuse prompts that leave no room for an answer."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    row, length = max(enumerate(map(len, tokens)), key=lambda pair: pair[1])
    if positions and length + longest > positions:
        number = rows[row][ROW]
        problem = (
            f"{what} {number} has a prompt of {length} tokens: with the answer {length + longest}, and the model has"
        )
        remedy = f"set {positions - length} or less" if positions > length else "leave out such long prompts"
        raise ConfigError(f"{problem} {positions} positions", remedy, field="max_completion_length", value=longest)


@contextlib.contextmanager
def loadable_again(model: Any, *, opened: bool, referenced: bool) -> Iterator[None]:
    """TRL loads the reference model by the policy's name; an open model may differ from what is there, so it is lent
    a folder with its weights while the trainer is made.
    """
    if not (opened and referenced) or isinstance(model, PeftModel):
        yield
        return
    name = model.config._name_or_path
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, safe_serialization=True)
        model.config._name_or_path = folder
        try:
            yield
        finally:
            model.config._name_or_path = name


def construct(loaded: Loaded, model: Any, extend: Callable[[type[Any]], type[Any]], arguments: Any, **own: Any) -> Any:
    """TRL's trainer with our rewards.

    Args:
        loaded: what it is made of.
        model: the policy.
        extend: what the algorithm puts on top of GRPOTrainer.
        arguments: TRL's config.
        **own: what the extended class takes beside TRL's arguments.
    """
    request, config, failures = loaded.request, cast("RolloutConfig", loaded.request.config), Failures()
    scorers: list[Any] = [Scorer(reward, config.reward_timeout, failures) for reward in request.rewards]
    scorer = scoring.reward_model_of(config, loaded.precision, arguments.device)
    if scorer is not None:
        scorers.append(ModelScorer(scorer, failures, taken={reward.name for reward in request.rewards}))
    adapter = loading.lora_config(config, model)
    referenced = bool(arguments.beta) and adapter is None
    trainer_class = with_rewards(per_row(extend(guarded(trl.GRPOTrainer))))
    with (
        building.options_told(config),
        loadable_again(model, opened=isinstance(request.model, PreTrainedModel), referenced=referenced),
    ):
        native = trainer_class(
            model=model,
            reward_funcs=scorers,
            args=arguments,
            train_dataset=request.train_rows,
            eval_dataset=request.eval_rows,
            processing_class=loaded.tokenizer,
            peft_config=adapter,
            **own,
        )
    native.failures = failures
    return native


def weights_of(loaded: Loaded) -> list[float]:
    """The weight of each reward, in TRL's order: the functions, then the reward model."""
    config = cast("RolloutConfig", loaded.request.config)
    functions = [reward.weight for reward in loaded.request.rewards]
    return [*functions, config.model_weight] if config.reward_model_name else functions


def own_arguments(loaded: Loaded) -> dict[str, Any]:
    """The arguments that such an algorithm shares with the others, and those that follow from the request."""
    config = cast("RolloutConfig", loaded.request.config)
    named = {"revision": config.revision, "attn_implementation": config.attn_implementation}
    reference = {name: value for name, value in named.items() if value}  # which TRL loads itself
    return rollout_arguments(config) | {"reward_weights": weights_of(loaded), "model_init_kwargs": reference or None}


@dataclass(frozen=True, slots=True)
class Policy:
    """What a trainer of a policy is made of: TRL, the request with its tokenizer, and the loaded model."""

    trl: Any
    loaded: Loaded
    tokeniser: PromptTokeniser
    model: Any

    def arguments(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments of GRPOConfig: those that every policy shares, and the algorithm's `own`."""
        return building.wanted_arguments(
            self.loaded, self.model, own_arguments(self.loaded) | dict(own), self.trl.GRPOConfig
        )


def load_policy(request: TrainRequest) -> Policy:
    """Load the model, and check that every prompt leaves room for an answer.

    Raises:
        ConfigError, DataError: what only the library, the model or the tokenizer can tell.
    """
    trl = building.library(request, "GRPOTrainer", "GRPOConfig")
    loaded = building.begin(request, trl.GRPOConfig)
    loaded = replace(loaded, request=mended(loaded.request, loaded.tokenizer))
    tokeniser, model = PromptTokeniser(loaded.tokenizer), building.load_policy(loaded)
    longest = cast("RolloutConfig", request.config).max_completion_length
    check_prompts(loaded, model, tokeniser, longest)
    return Policy(trl, loaded, tokeniser, model)


def build_policy(request: TrainRequest) -> PolicyTrainer:
    """TRL's trainer for one of the GRPO family.

    Raises:
        ConfigError, DataError: see `load_policy`.
    """
    config, policy = cast("GrpoConfig", request.config), load_policy(request)
    wanted = policy.arguments(group_arguments(config))
    arguments = building.make_checked(policy.trl.GRPOConfig, wanted, config)
    extend = partial(with_dynamic_sampling, attempts=config.dynamic_sampling_attempts)
    native = construct(policy.loaded, policy.model, extend, arguments)
    return PolicyTrainer(native, policy.loaded, wanted, policy.tokeniser)
