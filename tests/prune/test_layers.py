import pytest
import torch
from torch.nn import functional

from regrow.prune.channels.groups import find_groups
from regrow.prune.layers import sensitivities


def test_the_loss_without_the_lowest_quarter_of_one_layer_less_that_of_the_whole(make_task):
    task = make_task("plain")
    task.net.train()
    groups = find_groups(task).groups
    scores = [torch.arange(group.num_units, 0, -1.0) for group in groups]
    images, targets = task.example_images(6), torch.arange(6) % 3
    found = sensitivities(task, groups, scores, (images, targets))
    state = {name: value.clone() for name, value in task.net.state_dict().items()}
    task.net.eval()
    with torch.no_grad():
        whole = functional.cross_entropy(task(images)["logits"], targets)
        for place, group in enumerate(groups):
            # The channel leaves a block after its activation, 4 of 16 and 3 of 12, the last ones.
            last = group.num_units - group.num_units // 4
            block = task.net.body[place]
            handle = block.register_forward_hook(
                lambda _, __, out, last=last: torch.cat([out[:, :last], 0 * out[:, last:]], 1)
            )
            lossy = functional.cross_entropy(task(images)["logits"], targets)
            handle.remove()
            assert found[group.layer] == pytest.approx(float(lossy - whole), abs=1e-6)
    assert all(torch.equal(value, state[n]) for n, value in task.net.state_dict().items())
