"""The chat template that a setting gives: as text, or as a file."""

from __future__ import annotations

from pathlib import Path

from aligntune_core.errors import ConfigError


def template_text(given: str) -> str:
    """A chat template: the text itself, or what is in the file that it names.

    Raises:
        ConfigError: it is no template, and no such file can be read.
    """
    if "{{" in given or "{%" in given:
        return given
    try:
        return Path(given).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        text = getattr(error, "strerror", None) or "is not UTF-8"
        remedy = "give a Jinja template, or the path of a .jinja file"
        raise ConfigError(f"cannot be read: {text}", remedy, field="chat_template", value=given) from error
