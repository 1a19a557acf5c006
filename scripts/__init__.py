"""The commands: one file each, a thin `main(args)`."""
