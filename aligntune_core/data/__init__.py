"""Rows: where they are (`source`), whether the files are sound (`heads`), what rows mean (`formats`), and `read`."""

from aligntune_core.data.formats import template_text
from aligntune_core.data.read import Rows, load_rows
from aligntune_core.data.source import Source, find_source

__all__ = ["Rows", "Source", "find_source", "load_rows", "template_text"]
