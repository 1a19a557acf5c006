"""A dataset that grows: class maps, warm start, head growth."""
