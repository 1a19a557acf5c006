"""Layers by the names and patterns that users write."""
