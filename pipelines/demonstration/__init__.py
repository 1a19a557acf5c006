"""The second half of the demo: a model served, asked, captured and watched."""
