"""Everything that a trainer needs, imported in a worker while rows are read; quietly, as the hooks do it."""

from __future__ import annotations

import importlib

from aligntune_trl.quiet import hush

hush()
importlib.import_module("aligntune_trl.build")
