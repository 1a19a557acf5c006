"""A residual network without one of its branches: costs, measured latency, accuracy untrained.

    python benchmarks/depth.py
    python benchmarks/depth.py --net cifar_resnet56 --test-images 10000

Each branch that can go whole is removed alone, batch norms are measured anew on training images,
and the network is scored as the width search scores its candidates: by the Kullback-Leibler
divergence from the unpruned one on `--score-images` training images. The weakest branch is that of
the least divergence; its network is timed beside the unpruned one, by `--rounds` rounds in ONNX
Runtime with one image, and tested. Prints a line for each branch, then one JSON line.
"""

import argparse
import json
import os
from pathlib import Path

import torch
from cifar_recipe import SIDE, Cifar, accuracy, unpacked
from pruners import Batches

from regrow.models.classification import Classification
from regrow.models.latency import Clock
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.cost_model import costs_of
from regrow.prune.depth.settling import settle_branches_
from regrow.prune.recovery import reestimate_batchnorm_
from regrow.prune.search.scoring import Scorer

BATCH, NORM_BATCHES = 128, 8


def main() -> None:
    """Remove each branch alone, and print what is left of the network."""
    options = read_options()
    torch.set_num_threads(1)
    data = Cifar(unpacked(options.data), "cpu", options.images, 0, options.test_images)
    classes = [str(number) for number in range(10)]
    task = Classification(classes, (SIDE, SIDE), net=options.net, weights=str(options.weights))
    batches = Batches(data, 0, BATCH)
    found = find_groups(task, branches=True)
    scorer = Scorer(task, task, batches, options.score_images, NORM_BATCHES)
    plans = {
        group.branch.block: [(group, list(range(group.num_units)))]
        for group in found.groups
        if group.branch is not None
    }
    scores = {}
    for block, plan in plans.items():
        scored = scores[block] = scorer(plan)
        print(f"{block}: divergence {scored.distance:.4f}, {scored.costs['macs']:,.0f} MACs")
    weakest = min(scores, key=lambda block: scores[block].distance)
    small = clone(task)
    settle_branches_(small, plans[weakest])
    cut_(small, plans[weakest])
    reestimate_batchnorm_(small, batches, NORM_BATCHES)
    before, after = costs_of(task), costs_of(small)
    times = Clock(rounds=options.rounds).beside(task)(small)
    row = {
        "net": options.net,
        "without": weakest,
        "macs": [before["macs"], after["macs"]],
        "params": [before["params"], after["params"]],
        "ms": [round(value, 4) for value in times],
        "faster": round(times[0] / times[1], 3),
        "test": [round(accuracy(one.net, *data.test), 4) for one in (task, small)],
        "test_images": len(data.test[0]),
    }
    print(json.dumps(row))


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(os.environ.get("REGROW_DATA", "."))
    parser.add_argument("--net", default="cifar_resnet20")
    parser.add_argument("--weights", type=Path, help="by default under REGROW_DATA")
    parser.add_argument("--data", type=Path, default=root / "cifar10")
    parser.add_argument("--images", type=int, default=2000, help="training images")
    parser.add_argument("--score-images", type=int, default=512)
    parser.add_argument("--test-images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    name = f"cifar10_{options.net.removeprefix('cifar_')}.pth"
    options.weights = options.weights or root / "weights" / name
    return options


if __name__ == "__main__":
    main()
