"""One run each, as a typed function: train, prune, export, lineage."""
