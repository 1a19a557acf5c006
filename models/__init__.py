"""Networks with their losses and metrics; the checkpoint; what the other rooms measure with."""
