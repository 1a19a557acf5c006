"""regrow: prune vision networks and keep them trained while their data grows."""
