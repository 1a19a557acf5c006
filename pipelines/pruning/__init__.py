"""One pruning run: its inputs, the job, and its report."""
