"""Plugins: `control` says which may load, `border` checks what they give, `guard` what they do, `registry` loads them.

One bad plugin never harms the others: whatever happens while one loads is kept as a `LoadFailure`. Merely
installed, it is one warning; asked for by name, it is the error.
"""

from aligntune_core.plugins.backend import Backend
from aligntune_core.plugins.extension import Extension, load_extension, load_extensions
from aligntune_core.plugins.failure import Disabled, LoadFailure
from aligntune_core.plugins.registry import BackendRegistry, load_registry

__all__ = [
    "Backend",
    "BackendRegistry",
    "Disabled",
    "Extension",
    "LoadFailure",
    "load_extension",
    "load_extensions",
    "load_registry",
]
