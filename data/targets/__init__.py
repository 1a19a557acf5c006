"""Targets: the class, boxes or mask of an image, and what such a label leaves unknown."""
