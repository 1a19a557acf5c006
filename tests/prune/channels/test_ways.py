import random

import torch
from torch import Tensor, nn
from torch.nn import functional

from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.ways import guided


def test_loops_over_what_images_say_end(make_task):
    class Loops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x)
            while y.abs().max() > 1e3:
                y = y / 2
            for _ in range(int(x.abs().sum().clamp(0, 2))):
                y = y.relu()
            return self.fc(y.mean((2, 3)))

    assert [group.layer for group in find_groups(make_task(Loops())).groups] == ["stem"]


def test_the_proof_leaves_the_randomness_of_a_run_alone(make_task):
    torch.manual_seed(3)
    random.seed(3)
    expected = torch.rand(2), random.random()
    torch.manual_seed(3)
    random.seed(3)
    task = make_task("residual")
    torch.manual_seed(3)
    find_groups(task)
    assert torch.equal(torch.rand(2), expected[0])
    assert random.random() == expected[1]


def test_what_is_drawn_is_the_same_for_all_channels():
    x = torch.ones(2, 5)
    with guided(x, {}):
        assert torch.equal(torch.randn_like(x), torch.full_like(x, 0.5))
        assert torch.equal(functional.dropout(x, 0.5), 2 * x)
    assert functional.dropout(torch.ones(1000), 0.5).eq(0).any()
