"""Random numbers that are functions of names, so that the same captures give the same results."""

from hashlib import blake2b

import numpy as np

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def key_of(name: str) -> int:
    """Return a number of 64 bits that stands for a name."""
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def draws(keys: np.ndarray, purpose: str) -> np.ndarray:
    """Return a uniform number in [0, 1) for each key, different for each purpose.

    Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014
    (the finaliser of SplitMix64).

    Args:
        keys: Numbers of 64 bits, uint64 (n,).
        purpose: What they are drawn for, such as the name of a score.
    """
    mixed = keys.astype(np.uint64) ^ np.uint64(key_of(purpose))
    mixed = mixed + np.uint64(GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(SECOND)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53
