"""One module a subject; each gives Markdown."""
