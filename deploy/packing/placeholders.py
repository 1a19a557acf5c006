"""Placeholders in packed files: what only the user knows, clearly marked."""

from collections.abc import Iterable

ACCOUNT, ROLE, BUCKET, IMAGE = "YOUR_ACCOUNT", "YOUR_ROLE", "YOUR_BUCKET", "YOUR_IMAGE"
# No platform takes one of them for real: accounts are numbers, and buckets are lower case.
MEANINGS = {
    ACCOUNT: "number of the AWS account",
    ROLE: "name of the role that the endpoint runs as",
    BUCKET: "bucket that the files are copied to",
    IMAGE: "address of the container image",
}


def placeholders_in(texts: Iterable[str]) -> dict[str, str]:
    """Return the placeholders that occur in texts, with their meanings."""
    whole = "\n".join(texts)
    return {name: meaning for name, meaning in MEANINGS.items() if name in whole}
