"""Widening: channels given back to a pruned network, with its function unchanged."""
