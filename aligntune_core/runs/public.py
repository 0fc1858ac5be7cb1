"""What of a run may be told to others: names of the hub as they are, local names without their folders, no secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

NAMES = ("model_name", "reward_model_name", "dataset_name", "eval_dataset_name")
"""Settings that name what is local or on the hub; a run's `origin` says which."""
_AS_IT_STANDS = frozenset({"system_prompt", "revision", "split", "column_mapping"})
"""Settings that name no file, whatever characters are in them."""
_SECRET = re.compile(r"token$|secret|password|passwd|api_?key|credential", re.IGNORECASE)


def last_part(name: str) -> str:
    """A path without its folders."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1]


def several(value: Any) -> Sequence[Any]:
    """A setting of one or several values, as several."""
    return value if isinstance(value, list | tuple) else [] if value is None else [value]


def on_hub(run: Mapping[str, Any], setting: str) -> list[str]:
    """The names in a setting that are those of the hub; none where the run does not say."""
    names = several(_part(run, "config").get(setting))
    origin = _part(run, "origin").get(setting)
    kinds = several(origin) if not isinstance(origin, str) else [origin] * len(names)
    return [str(name) for name, kind in zip(names, kinds, strict=False) if kind == "hub"]


def told(run: Mapping[str, Any], setting: str, value: Any) -> Any:
    """A setting as a model card tells it."""
    if setting in NAMES:
        known = on_hub(run, setting)
        names = [name if name in known else last_part(str(name)) for name in several(value)]
        return names if isinstance(value, list | tuple) else names[0] if names else None
    return value if setting in _AS_IT_STANDS else without_folders(value)


def without_folders(value: Any) -> Any:
    """A value in which a text of one line that may be a path has its last part alone, and what looks secret is gone."""
    if isinstance(value, Mapping):
        return {key: without_folders(item) for key, item in value.items() if not _SECRET.search(str(key))}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    template = isinstance(value, str) and ("{{" in value or "{%" in value)
    return last_part(value) if isinstance(value, str) and not template and "\n" not in value else value


def _part(run: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = run.get(name)
    return found if isinstance(found, Mapping) else {}
