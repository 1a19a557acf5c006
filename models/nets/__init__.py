"""The networks: built by name, with their pretrained weights."""
