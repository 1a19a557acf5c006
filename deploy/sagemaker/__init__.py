"""SageMaker: the training container and its contracts."""
