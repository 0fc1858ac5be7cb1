"""The rewards that come with AlignTune: few, and each does what its name says."""

from aligntune_core.rewards.builtin.checked import format_reward, json_schema, math
from aligntune_core.rewards.builtin.matching import exact_match, numeric_match
from aligntune_core.rewards.builtin.shape import length, repetition, soft_overlong
from aligntune_core.rewards.values import Reward

BUILT_IN = (
    Reward("exact_match", exact_match),
    Reward("format", format_reward),
    Reward("json_schema", json_schema),
    Reward("length", length),
    Reward("math", math),
    Reward("numeric_match", numeric_match),
    Reward("repetition", repetition),
    Reward("soft_overlong", soft_overlong),
)
