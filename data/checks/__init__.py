"""Checks of a data set: what is refused, what is counted and told, and what appears twice."""
