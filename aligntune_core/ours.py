"""The one table in which core names backends: those of our own, each installed by the extra of the same name."""

from __future__ import annotations

from enum import StrEnum


class BackendType(StrEnum):
    """Our backends, for those who prefer an enum; a plain string in any case means the same."""

    AUTO = "auto"
    TRL = "trl"
    UNSLOTH = "unsloth"


EXTRAS = {backend.value: backend.value for backend in BackendType if backend is not BackendType.AUTO}


def install_remedy(backend: str) -> str:
    """The command that installs one of our backends."""
    return f"pip install 'aligntune[{EXTRAS[backend]}]'"


def owner(backend: str) -> str:
    """The distribution to which the name of one of our backends belongs."""
    return f"aligntune-{backend}"
