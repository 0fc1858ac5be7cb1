"""The import path that the user documents use."""
