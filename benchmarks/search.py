"""Width search and least-squares compensation beside the ranking alone, on CIFAR-10.

    python benchmarks/search.py --minutes 8 --seeds 0 1 2 3 4
    python benchmarks/search.py --rows default search search+compensation --minutes 8 --seeds 0

Each row is one cut of the trained network to `--speedup`, by scripts/prune.py's own engine, without
any training: `default` is what the options' defaults do, the others change what their names say.
Rows whose name begins with `search` rank within a layer by the weights of its consumers and take
`--minutes` for the widths. Training images are `--images` of CIFAR-10 less `--val-images`, which no
row reads; a seed draws their order, augmentation, and the search's mutations. Prints one JSON line
a row and seed, then a table with the mean and the sample deviation over seeds.
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from cifar_recipe import SIDE, Cifar, accuracy, count_macs, unpacked
from pruners import Batches, split

from regrow.metrics.budget import Budget
from regrow.models.classification import Classification
from regrow.prune.compensation.compensate import Compensation
from regrow.prune.criteria import ConsumerMagnitude, Criterion, Taylor
from regrow.prune.engine import prune
from regrow.prune.removal import Channels
from regrow.prune.search.settings import Search
from regrow.prune.selection import Selection
from regrow.prune.target import Target

BATCH = 128
# By the row: criterion, selection, whether widths are searched for, whether readers are fitted.
Row = tuple[type[Criterion], dict[str, Any], bool, bool]
RAW: dict[str, Any] = {"per": "macs", "normalizer": "none"}
BY_MACS: dict[str, Any] = {"per": "macs", "max_share": 0.95}
ROWS: dict[str, Row] = {
    "default": (Taylor, {}, False, False),
    "default+compensation": (Taylor, {}, False, True),
    "per-macs": (Taylor, {"per": "macs"}, False, False),
    "raw-per-macs": (Taylor, RAW, False, False),
    "raw-per-macs+compensation": (Taylor, RAW, False, True),
    "consumers-per-macs": (ConsumerMagnitude, {"per": "macs"}, False, False),
    "consumers-per-macs+compensation": (ConsumerMagnitude, {"per": "macs"}, False, True),
    "search-taylor": (Taylor, BY_MACS, True, False),
    "search": (ConsumerMagnitude, BY_MACS, True, False),
    "search+compensation": (ConsumerMagnitude, BY_MACS, True, True),
}


def measure(options: argparse.Namespace, row: str, seed: int) -> dict[str, Any]:
    """Cut the network as a row says, with one seed; return the figures of it."""
    criterion, selection, is_searched, is_compensated = ROWS[row]
    data = Cifar(options.data, "cpu", options.images, options.val_images, options.test_images)
    task = Classification(
        [str(number) for number in range(10)],
        (SIDE, SIDE),
        net=options.net,
        weights=str(options.weights),
    )
    started = time.perf_counter()
    removal = Channels(
        task,
        Target(macs=1 / options.speedup),
        Selection(round_to=options.round_to, **selection),
        criterion(),
        compensation=Compensation() if is_compensated else None,
        search=Search(minutes=options.minutes) if is_searched else None,
    )
    result = prune(
        task,
        removal,
        train_loader=Batches(data, seed, BATCH),
        val_loader=split(*data.val),
        test_loader=split(*data.test),
        num_steps=1,
        adapts=False,
        budget=Budget(max_drop=1.0),
        seed=seed,
    )
    seconds = time.perf_counter() - started
    net = result.task.net
    return {
        "row": row,
        "net": options.net,
        "seed": seed,
        "reduction": round(count_macs(task.net) / count_macs(net), 4),
        "params": sum(p.numel() for p in net.parameters()),
        "val": round(accuracy(net, *data.val), 4),
        "test": round(accuracy(net, *data.test), 4),
        "error": result.steps[-1].error,
        "seconds": round(seconds, 1),
        "minutes": options.minutes if is_searched else 0,
        "widths": {name: width for name, width in result.steps[-1].widths.items()},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the mean over seeds of each row, with the sample deviation, as Markdown."""
    lines = [
        "| row | seeds | fewer MACs | untrained, test % | seconds |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["row"] for row in rows):
        own = [row for row in rows if row["row"] == name]
        scores = [100 * row["test"] for row in own]
        spread = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
        reduction = statistics.mean(row["reduction"] for row in own)
        seconds = statistics.mean(row["seconds"] for row in own)
        lines.append(
            f"| {name} | {len(own)} | {reduction:.3f}x | {statistics.mean(scores):.2f}{spread} "
            f"| {seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure every row with every seed, and print what came of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(os.environ.get("REGROW_DATA", "."))
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--net", default="cifar_resnet20")
    parser.add_argument("--weights", type=Path, help="by default under REGROW_DATA")
    parser.add_argument("--data", type=Path, default=root / "cifar10")
    parser.add_argument("--speedup", type=float, default=2.11, help="MACs before / after")
    parser.add_argument("--minutes", type=float, default=8.0, help="of each search")
    parser.add_argument("--images", type=int, default=6000, help="training images")
    parser.add_argument("--val-images", type=int, default=2000, help="read by nobody")
    parser.add_argument("--test-images", type=int, default=10_000)
    parser.add_argument("--round-to", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    short = options.net.removeprefix("cifar_")
    options.weights = options.weights or root / "weights" / f"cifar10_{short}.pth"
    options.data = unpacked(options.data)
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.rows:
        for seed in options.seeds:
            rows.append(measure(options, name, seed))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows), file=sys.stdout)


if __name__ == "__main__":
    main()
