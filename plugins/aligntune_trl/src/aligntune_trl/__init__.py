"""The TRL backend of AlignTune. `plugin` is its entry point; nothing here imports torch before a trainer is built."""
