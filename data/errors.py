"""The two ways in which a command ends with something to say to its user."""


class BadInput(Exception):
    """Input that cannot be used: a line that names the file or key and the way out (code 2)."""


class CheckFailed(Exception):
    """A gate, a budget or a parity check that was not met (code 3)."""
