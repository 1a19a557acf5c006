"""One training run: its request, how it begins or goes on, and its report."""
