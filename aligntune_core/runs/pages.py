"""Self-contained pages from templates: no scripts, nothing fetched, whatever a model wrote escaped.

Needs the extra `aligntune[report]`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from aligntune_core.runs.charts import number


def value_text(value: object) -> str:
    """A setting as it was, never rounded: it may be copied into the next run."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read(name: str) -> str:
    return resources.files("aligntune_core.runs").joinpath(name).read_text("utf-8")


def render(template: str, context: Mapping[str, Any]) -> str:
    """The text of a page; a sample may hold half a surrogate pair, which becomes a question mark."""
    import jinja2

    env = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_read),
    )  # fmt: skip
    env.filters.update(number=number, value=value_text)
    return env.get_template(template).render(context).encode("utf-8", "replace").decode()
