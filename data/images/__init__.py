"""Image files: opened, converted to 8-bit colours, resized, kept in memory, and recognised."""
