import torch

from regrow.prune.channels.sights import sights


def test_images_of_several_kinds_are_the_same_at_every_call(make_task):
    task = make_task("plain")
    noise, others = sights(task)
    assert [(batch.dtype, tuple(batch.shape[1:])) for batch in (noise, others)] == [
        (torch.uint8, (3, 16, 16))
    ] * 2
    again = sights(task)
    assert torch.equal(noise, again[0])
    assert torch.equal(others, again[1])
    means = others.float().mean((1, 2, 3))
    assert means.min() < 1
    assert means.max() > 254
    # Ramps are grey nowhere: three equal channels could change places unseen.
    ramps = others[:2]
    assert not torch.equal(ramps[:, 0], ramps[:, 1])


def test_real_images_are_a_batch_of_their_own(make_task):
    task = make_task("plain")
    images = torch.full((5, 3, 16, 16), 7, dtype=torch.uint8)
    *made, given = sights(task, images)
    assert len(made) == 2
    assert torch.equal(given, images)
