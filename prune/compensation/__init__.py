"""Least-squares compensation: the layers that read pruned channels are fitted anew."""
