"""The accuracy of networks that lose a small share of every layer, without any training.

    python benchmarks/small_ratios.py
    python benchmarks/small_ratios.py --nets cifar_resnet56 --test-images 10000 --criterion Taylor

Each row is a trained network, of which the same share of the units of every group is cut, the
lowest by `--criterion`, at once: with batch norms as they were, and measured anew on 16 batches of
training images. The CIFAR ResNets are read from the weights under REGROW_DATA and are scored on the
first `--test-images` of CIFAR-10. The others are trained here for `--epochs` on the built-in
digits, and scored on their test images; a network without batch norms has one figure. Prints one
JSON line a row, then a table in percent.

The question is torch-pruning's issue 347, in which a tenth of the channels took 5 points, and a
thousandth 20.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from cifar_recipe import SIDE, Cifar, unpacked
from pruners import Batches, split
from torch import Tensor

from regrow.data.module import GrowingData
from regrow.data.sample import Digits
from regrow.models.classification import Classification
from regrow.models.optimization import Optimization
from regrow.models.task import loss_of
from regrow.prune import criteria
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.criteria import score_groups
from regrow.prune.recovery import reestimate_batchnorm_
from regrow.prune.selection import lowest

VIT: dict[str, Any] = {
    "img_size": SIDE,
    "patch_size": 4,
    "embed_dim": 64,
    "depth": 4,
    "num_heads": 4,
}
# By the name: the arguments of the network; those of CIFAR-10 come trained.
DIGITS: dict[str, dict[str, Any]] = {
    "timm/mobilenetv3_small_050": {},
    "timm/vit_tiny_patch16_224": VIT,
}
CIFAR = ["cifar_resnet20", "cifar_resnet32", "cifar_resnet56"]
CLASSES = [str(number) for number in range(10)]
Loader = Any


def of_cifar(options: argparse.Namespace, net: str) -> tuple[Classification, Loader, Loader]:
    """Return a network that is trained on CIFAR-10, with training and test batches."""
    weights = options.root / "weights" / f"cifar10_{net.removeprefix('cifar_')}.pth"
    task = Classification(CLASSES, (SIDE, SIDE), net=net, weights=str(weights))
    data = Cifar(options.cifar, "cpu", 4096, 0, options.test_images)
    return task, Batches(data, options.seed, 128), split(*data.test)


def of_digits(options: argparse.Namespace, net: str) -> tuple[Classification, Loader, Loader]:
    """Train a network on the digits; return it with training and test batches."""
    torch.manual_seed(options.seed)
    data = GrowingData(Digits(), size=(SIDE, SIDE), batch_size=64, seed=options.seed)
    task = Classification(CLASSES, (SIDE, SIDE), net=net, net_args=DIGITS[net])
    loader, recipe = data.train_dataloader(), Optimization(lr=1e-3, weight_decay=0.05)
    optimizer = recipe.build(task.net)
    task.net.train()
    num_steps = options.epochs * len(loader)
    for step, (images, targets) in enumerate(_endless(loader, num_steps)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate((step + 0.5) / num_steps)
        optimizer.zero_grad()
        loss_of(task, images, targets).backward()
        optimizer.step()
    return task, loader, data.test_dataloader()


def _endless(loader: Loader, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    for epoch in range(-(-count // len(loader))):
        loader.sampler.set_epoch(epoch)
        yield from loader


@torch.no_grad()
def accuracy(task: Classification, batches: Loader) -> float:
    """Return the share of images that a network gets right, in percent."""
    task.net.eval()
    found = [(task(images)["logits"].argmax(1) == labels) for images, labels in batches]
    return round(100 * float(torch.cat(found).float().mean()), 2)


def measure(options: argparse.Namespace, net: str) -> dict[str, Any]:
    """Return the accuracy of a network at each ratio, with and without new batch norms."""
    task, train, test = (of_digits if net in DIGITS else of_cifar)(options, net)
    task.eval()
    found = find_groups(task)
    criterion = getattr(criteria, options.criterion)()
    scores = score_groups(task, found.groups, criterion, train)
    row: dict[str, Any] = {"net": net, "groups": len(found.groups), "dense": accuracy(task, test)}
    for ratio in options.ratios:
        cut = clone(task)
        removed = cut_(cut, lowest(found.groups, scores, ratio))
        as_cut, num_gone = accuracy(cut, test), sum(map(len, removed.values()))
        num_norms = reestimate_batchnorm_(cut, train)
        anew = accuracy(cut, test) if num_norms else None
        row[f"{ratio:g}"] = {"as cut": as_cut, "norms anew": anew, "removed": num_gone}
    return row


def table(rows: list[dict[str, Any]], ratios: list[float]) -> str:
    """Return the accuracies as Markdown."""
    heads = [f"{ratio:g}, {kind}" for ratio in ratios for kind in ("as cut", "norms anew")]
    lines = ["| network | dense % | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    for row in rows:
        cells = [row[f"{ratio:g}"][kind] for ratio in ratios for kind in ("as cut", "norms anew")]
        told = ["no norms" if cell is None else f"{cell:.2f}" for cell in cells]
        lines.append(f"| {row['net']} | {row['dense']:.2f} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure every network, and print what came of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*CIFAR, *DIGITS]
    parser.add_argument("--nets", nargs="+", choices=names, default=names)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.05, 0.1])
    parser.add_argument("--criterion", default="Magnitude", help="a class of regrow.prune.criteria")
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("REGROW_DATA", ".")))
    parser.add_argument("--test-images", type=int, default=2000, help="of CIFAR-10")
    parser.add_argument("--epochs", type=int, default=12, help="on the digits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if set(options.nets) & set(CIFAR):
        options.cifar = unpacked(options.root / "cifar10")
    rows = []
    for net in options.nets:
        rows.append(measure(options, net))
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows, options.ratios))


if __name__ == "__main__":
    main()
