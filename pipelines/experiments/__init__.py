"""Many runs compared: dropout against pruning, and ways to retrain."""
