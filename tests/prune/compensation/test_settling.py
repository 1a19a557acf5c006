import torch

from regrow.prune.channels.surgery import clone
from regrow.prune.compensation.settling import settle_norms_


def batches(count: int = 2):
    generator = torch.Generator().manual_seed(4)
    for _ in range(count):
        yield torch.randint(0, 256, (8, 3, 16, 16), generator=generator, dtype=torch.uint8), None


def norms(task):
    return [m for m in task.net.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_statistics_stay_where_none_are_nearer(make_task):
    reference = make_task("plain")
    task = clone(reference)
    before = [norm.running_mean.clone() for norm in norms(task)]
    # Nothing is nearer to a network than itself.
    assert settle_norms_(task, reference, list(batches()), 16) is False
    assert all(torch.equal(n.running_mean, b) for n, b in zip(norms(task), before, strict=True))


def test_statistics_are_measured_anew_where_these_are_nearer(make_task):
    reference = make_task("plain")
    task = clone(reference)
    norms(task)[0].running_var *= 1e-6
    given = list(batches())
    assert settle_norms_(task, reference, given, 16) is True
    # Of the first norm by hand: the mean over batches of what comes in.
    conv = reference.net.body[0][0]
    with torch.no_grad():
        maps = [conv(reference.prepare(images)) for images, _ in given]
    mean = torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0)
    torch.testing.assert_close(norms(task)[0].running_mean, mean)
