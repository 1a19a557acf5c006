"""The record in a checkpoint besides its weights: structure, buffers, and where it comes from."""
