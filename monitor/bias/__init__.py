"""Bias: whether pictures of one kind are answered otherwise than the rest."""
