"""Channels: which must go together, how they are cut, and the proof that nothing else changed."""
