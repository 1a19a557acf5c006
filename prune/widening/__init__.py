"""Widening: channels come back to a pruned network, and its function stays unchanged."""
