"""Importing this module imports Unsloth, and whatever it imports: the only true answer to whether it works here."""

from __future__ import annotations

from aligntune_unsloth.importing import unsloth

FAST = unsloth().FastLanguageModel
"""What the backend needs of it."""
