import random

import pytest
import torch

from regrow.prune.channels.exactness import check_exact, probe, sift, telling_images
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Group, Member


def random_plan(task, share: float = 0.4, seed: int = 5):
    generator = random.Random(seed)
    return [
        (g, sorted(generator.sample(range(g.num_units), max(1, int(share * g.num_units)))))
        for g in find_groups(task).groups
    ]


def test_different_and_infinite_outputs_disagree(make_task):
    task, other = make_task("plain"), make_task("plain")
    with torch.no_grad():
        other.net.fc.weight *= 2
        other.net.fc.bias *= 2
    assert check_exact(task, other) == pytest.approx(1)
    with torch.no_grad():
        other.net.fc.bias[0] = float("nan")
    assert check_exact(task, other) == float("inf")


def test_the_offender_is_found_among_sound_groups(make_task):
    task = make_task("shuffle")
    sound = random_plan(task)
    # A record that is wrong: the stem's channels are read in another order.
    stem = Member("body.stem.0", "out", tuple((unit,) for unit in range(16)))
    norm = Member("body.stem.1", "out", stem.units)
    reads = Member("body.last.0", "in", stem.units)
    bad = (Group("body.stem.0", (stem, norm, reads)), [1, 2, 7, 8])
    kept, refused = sift(task, [bad, *sound])
    assert kept == sound
    assert list(refused) == ["body.stem.0"]
    assert "not exact" in refused["body.stem.0"]


def test_groups_that_are_exact_alone_but_not_together_are_not_both_kept(make_task):
    task = make_task("plain")
    first, second = find_groups(task).groups
    # Together two halves leave nothing of a layer.
    low, high = (first, list(range(8))), (first, list(range(8, 16)))
    other = (second, [0])
    assert probe(task, [low]) is probe(task, [high]) is None
    assert sift(task, [low, high]) == ([low], {"body.0.0": "cutting it fails: " + EMPTIED})
    for plan in ([other, high], [high, other]):
        kept, refused = sift(task, plan, [low])
        assert kept == [other]
        assert list(refused) == ["body.0.0"]


EMPTIED = "body.0.0 would be left without channels"


def test_the_images_that_tell_most_come_first():
    images = torch.full((12, 3, 4, 4), 100, dtype=torch.uint8)
    images[3], images[5] = 0, 255  # the darkest and the brightest
    images[7, :, ::2], images[7, :, 1::2] = 20, 180  # the one with most contrast
    images[9, :, 0] = 101  # with some; of the others, who have none, the first counts
    found = telling_images([(images, None)])
    assert torch.equal(found, images[[3, 5, 0, 7, 1, 2, 4, 6]])
    assert telling_images([]) is None
