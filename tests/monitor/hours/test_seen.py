"""Keys that were seen are those of a set."""

import random

from regrow.monitor.hours.seen import Seen


def test_it_is_a_set() -> None:
    draw, seen, expected = random.Random(0), Seen(), set[int]()
    ends = [0, 1, 2**52 - 1, 2**52, 2**64 - 1]
    for _ in range(3000):
        key = draw.choice([draw.randrange(2**64), draw.randrange(50), draw.choice(ends)])
        assert (key in seen) == (key in expected)
        if draw.random() < 0.7:
            seen.add(key)
            expected.add(key)
        assert len(seen) == len(expected)
    assert all(key in seen for key in expected)
