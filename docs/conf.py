"""Sphinx: `sphinx-build -W -n docs docs/_build/html`."""

from importlib import metadata

project = "AlignTune"
author = "AlignTune contributors"
project_copyright = author
release = version = metadata.version("aligntune")

extensions = ["myst_parser"]
exclude_patterns = ["_build", "_generate"]
myst_heading_anchors = 4
smartquotes = False  # -- is two dashes
pygments_style = "friendly"
pygments_dark_style = "monokai"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_title = f"AlignTune {release}"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
