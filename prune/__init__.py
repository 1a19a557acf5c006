"""A smaller network under an accuracy budget."""
