"""Batches: their order, how often each image comes, and the examples in them."""
