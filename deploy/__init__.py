"""What goes out: the exported model, its parity, the training container."""
