"""The Unsloth backend of AlignTune: models and kernels by Unsloth, everything else by aligntune_trl."""
