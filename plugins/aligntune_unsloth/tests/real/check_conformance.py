"""The conformance suite on every cell that is trained with Unsloth, on its CPU backend.

It runs in a process of its own: Unsloth has to be imported before what the other checks import.
"""

from __future__ import annotations

from typing import ClassVar

from aligntune_unsloth.importing import unsloth

from .suite import UnslothSuite, cells

unsloth()


class TestUnsloth(UnslothSuite):
    only: ClassVar = cells(lambda cell: cell.level == "full")
