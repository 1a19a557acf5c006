"""One way to train and evaluate: the settings, the trainer, its callbacks, and going on."""
