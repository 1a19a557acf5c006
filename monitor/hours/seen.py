"""Keys that were seen, in a few bytes each, where a set of Python's takes a hundred."""

from array import array
from bisect import bisect_left

SHIFT = 52  # of a key's 64 bits: the first twelve choose one of 4,096 lists


class Seen:
    """A set of keys of 64 bits."""

    def __init__(self) -> None:
        self._lists: dict[int, array[int]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        found = self._lists.get(key >> SHIFT)
        if found is None:
            return False
        place = bisect_left(found, key)
        return place < len(found) and found[place] == key

    def add(self, key: int) -> None:
        """Add a key, if it is a new one."""
        found = self._lists.setdefault(key >> SHIFT, array("Q"))
        place = bisect_left(found, key)
        if place == len(found) or found[place] != key:
            found.insert(place, key)
            self._count += 1
