"""The parts of monitoring that need the model and its data."""
