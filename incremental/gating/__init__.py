"""Whether a new network may be served: judged on old and new images, and promoted."""
