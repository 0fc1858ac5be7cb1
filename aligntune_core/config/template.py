"""The chat template that a setting gives: by name, as text, or as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from aligntune_core.algorithms import nearest
from aligntune_core.errors import ConfigError

PLAIN = """\
{%- for message in messages -%}
{%- if not loop.first %}{{ '\\n\\n' }}{% endif -%}
{%- if message.role == 'assistant' -%}
{{ 'Answer:\\n' + message.content + (eos_token or '') }}
{%- elif message.role == 'user' -%}
{{ 'Question:\\n' + message.content }}
{%- else -%}
{{ message.content }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '\\n\\nAnswer:\\n' }}{% endif -%}"""
"""The plain prompt format, for a tokenizer that has no chat template. It is saved with the model."""

CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}"""

TEMPLATES: Mapping[str, str] = MappingProxyType({"plain": PLAIN, "chatml": CHATML})
"""The templates that have a name. The token that begins a sequence is not among them: some tokenizers have one."""
MARKS: Mapping[str, tuple[str, ...]] = MappingProxyType({"plain": (), "chatml": ("<|im_start|>", "<|im_end|>")})
"""The tokens that a named template needs in the tokenizer's vocabulary: as plain text they would end no answer."""


def template_text(given: str) -> str:
    """A chat template: one of `TEMPLATES` by its name, the text itself, or what is in the file that it names.

    Raises:
        ConfigError: it is none of these.
    """
    if given in TEMPLATES:
        return TEMPLATES[given]
    if "{{" in given or "{%" in given:
        return given
    try:
        return Path(given).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        text = getattr(error, "strerror", None) or "is not UTF-8"
        guess = nearest(given, TEMPLATES)
        remedy = f"give {' or '.join(TEMPLATES)}, a Jinja template, or the path of a .jinja file"
        if guess:
            remedy = f"did you mean '{guess}'?"
        raise ConfigError(f"cannot be read: {text}", remedy, field="chat_template", value=given) from error
