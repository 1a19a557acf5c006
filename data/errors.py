"""The two ways in which a command ends with something to say to its user."""


class BadInput(Exception):
    """Input that cannot be used: one line that names the file or key and the way out (exit code 2)."""


class CheckFailed(Exception):
    """A gate, a budget or a parity check that was not met (exit code 3)."""
