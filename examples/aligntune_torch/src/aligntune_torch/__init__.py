"""A backend of AlignTune in plain PyTorch: an example to copy. Start reading at `plugin`."""
