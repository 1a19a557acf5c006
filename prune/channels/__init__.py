"""Structured pruning: coupled channels, how they are cut, and the proof that the cut is exact."""
