"""Depth pruning: whole residual branches are removed where what is left is exact."""
