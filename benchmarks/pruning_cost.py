"""The cost of pruning itself: seconds and memory of rank + cut, beside torch-pruning's step.

    python benchmarks/pruning_cost.py --net torchvision/resnet50 --rounds 5
    python benchmarks/pruning_cost.py --part search --net torchvision/resnet50 --rounds 1

Every figure is from a process of its own, the tools by turns: one that only loads the network and
the tool, and one that goes on to prune it. Memory is the largest resident size of the process that
prunes, in building the graph and in the step, less that of the one that only loads. Both rank by
the magnitude of grouped weights and remove the same share of every layer at once:

- torch-pruning: the graph is MagnitudePruner's constructor, the step its `step()`.
- regrow: the graph is `find_groups`, which proves every group in float64; the step is what the
  engine does to score, choose, cut, and prove that the cut network is the masked one.
- regrow, unproved: the same without the proof of the cut: score, choose, cut.

With `--part search` it is the cost of what regrow can do besides, of a plan that keeps the share of
the MACs, on images of noise (batches of 16):
- candidate: one of the width search, cut, its batch norms measured anew on `--batches`, scored.
- trial: one of `--steps` steps of distilled training, scored.
- compensation: the layers that read pruned channels fitted on `--images`.
Setting up is what comes before the first candidate, such as the unpruned network's outputs.

Prints one JSON line a process, then a table of medians.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from regrow.models.classification import Classification
from regrow.models.cost import count_macs
from regrow.models.task import Task

SIDES = ["torch-pruning", "regrow", "regrow, unproved"]
PARTS = ["candidate", "trial", "compensation"]
BATCH = 16


def by_torch_pruning(task: Task, share: float) -> tuple[float, int]:
    """Cut the network in place; return the seconds of the graph, and the peak of memory in it."""
    import torch_pruning

    started = time.perf_counter()
    pruner = torch_pruning.pruner.MagnitudePruner(
        task.net,
        task.prepare(task.example_images(1)),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        # Of its channels, so that about the share of the MACs is left.
        pruning_ratio=1 - share**0.5,
        ignored_layers=[task.net.get_submodule(name) for name in task.output_layers()],
    )
    graph, peak = time.perf_counter() - started, largest()
    forget_largest()
    pruner.step()
    return graph, peak


def by_regrow(task: Task, share: float, is_proved: bool) -> tuple[float, int]:
    """Cut the network in place with regrow; return the same two."""
    from regrow.prune.channels.groups import find_groups
    from regrow.prune.channels.surgery import cut_
    from regrow.prune.criteria import Magnitude, score_groups
    from regrow.prune.removal import Channels
    from regrow.prune.selection import Chooser, Selection
    from regrow.prune.target import Target

    selection = Selection(scope="local")
    started = time.perf_counter()
    found = find_groups(task)
    graph, peak = time.perf_counter() - started, largest()
    forget_largest()
    if is_proved:
        channels = Channels(task, Target(macs=share), selection, Magnitude(), found)
        channels.cut_(task, [], {"macs": share}, tightly=True)
        return graph, peak
    scores = score_groups(task, found.groups, Magnitude())
    dense = {group.layer: group.width for group in found.groups}
    chooser = Chooser(task, found.groups, scores, dense, selection)
    plan = chooser.choose({"macs": share * count_macs(task)}, tightly=True)
    cut_(task, plan or [])
    return graph, peak


def by_search(task: Task, options: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of setting up and of each repetition of a part of the search."""
    from regrow.prune.channels.groups import find_groups
    from regrow.prune.channels.surgery import clone, cut_
    from regrow.prune.compensation.compensate import Compensation, compensate_
    from regrow.prune.criteria import Magnitude, score_groups
    from regrow.prune.search.scoring import Scorer
    from regrow.prune.search.trials import Trials
    from regrow.prune.selection import lowest

    groups = find_groups(task).groups
    # Of the channels, so that about the share of the MACs is left.
    plan = lowest(groups, score_groups(task, groups, Magnitude()), 1 - options.share**0.5)
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, 3, options.size, options.size)
    num_batches = -(-options.images // BATCH) + options.batches
    batches = [
        (torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), torch.arange(BATCH))
        for _ in range(num_batches)
    ]

    def as_cut(plan: Any, _: Any) -> Task:
        work = clone(task)
        cut_(work, plan)
        return work

    forget_largest()
    started = time.perf_counter()
    if options.child == "compensation":
        settings, run = Compensation(options.images), clone(task)
        call = lambda: compensate_(run, plan, batches, settings)  # noqa: E731
    else:
        scorer = Scorer(task, task, batches, options.images, options.batches)
        trials = Trials(as_cut, scorer, batches, task.optimization, options.steps)
        call = (lambda: trials(plan)) if options.child == "trial" else lambda: scorer(plan)
    ready = time.perf_counter()
    for _ in range(options.repeats):
        call()
    seconds = (time.perf_counter() - ready) / options.repeats
    return {"setup_seconds": ready - started, "seconds": seconds}


def largest() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_largest() -> None:
    """Reset the largest resident size, which Linux measures anew from here."""
    Path("/proc/self/clear_refs").write_text("5")


def child(options: argparse.Namespace) -> dict[str, Any]:
    """Load the network, and prune it unless only loading is measured."""
    torch.manual_seed(0)
    size = (options.size, options.size)
    task = Classification([str(n) for n in range(1000)], size, net=options.net).eval()
    macs = count_macs(task)
    if options.only_load:
        if options.child == "torch-pruning":
            import torch_pruning  # noqa: F401
        else:
            import regrow.prune.engine  # noqa: F401
        return {"side": options.child, "loaded": largest()}
    if options.child in PARTS:
        return {"side": options.child, **by_search(task, options), "peak": largest()}
    started = time.perf_counter()
    if options.child == "torch-pruning":
        graph, peak = by_torch_pruning(task, options.share)
    else:
        graph, peak = by_regrow(task, options.share, options.child == "regrow")
    total = time.perf_counter() - started
    return {
        "side": options.child,
        "graph_seconds": graph,
        "step_seconds": total - graph,
        "graph_peak": peak,
        "step_peak": largest(),
        "kept": count_macs(task) / macs,
    }


def spawn(side: str, options: argparse.Namespace, *flags: str) -> dict[str, Any]:
    """Run one side in a process of its own; print and return what it measured."""
    command = [sys.executable, __file__, "--child", side, "--net", options.net]
    command += ["--size", str(options.size), "--share", str(options.share)]
    command += ["--threads", str(options.threads), *flags]
    for name in ("images", "batches", "steps", "repeats"):
        command += [f"--{name}", str(getattr(options, name))]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    line = ran.stdout.strip().splitlines()[-1]
    print(line, flush=True)
    return json.loads(line)


def print_parts(options: argparse.Namespace) -> None:
    """Measure the parts of a search by turns, and print the medians."""
    lines = ["| | set up s | s each | peak MiB | more than loading MiB |", "|---|---|---|---|---|"]
    for side in options.parts:
        loaded = spawn(side, options, "--only-load")["loaded"]
        rows = [spawn(side, options) for _ in range(options.rounds)]
        setup, seconds, peak = (
            statistics.median(row[name] for row in rows)
            for name in ("setup_seconds", "seconds", "peak")
        )
        sizes = [f"{value / 2**20:.0f}" for value in (peak, peak - loaded)]
        lines.append(f"| {side} | {setup:.1f} | {seconds:.1f} | {' | '.join(sizes)} |")
    print("\n".join(lines))


def main() -> None:
    """Measure all sides by turns, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", default="torchvision/resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--share", type=float, default=0.5, help="of the MACs that is kept")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", choices=["step", "search"], default="step")
    search = parser.add_argument_group("the search")
    search.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    search.add_argument("--images", type=int, default=512, help="scored, or fitted on")
    search.add_argument("--batches", type=int, default=8, help="for norms, and to train on")
    search.add_argument("--steps", type=int, default=30, help="of a trial")
    search.add_argument("--repeats", type=int, default=4, help="candidates in one process")
    parser.add_argument("--child", choices=[*SIDES, *PARTS], help=argparse.SUPPRESS)
    parser.add_argument("--only-load", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(child(options)))
        return
    if options.part == "search":
        print_parts(options)
        return
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side in SIDES:
            loaded = spawn(side, options, "--only-load")["loaded"]
            row = spawn(side, options)
            row["graph_memory"] = row["graph_peak"] - loaded
            row["step_memory"] = row["step_peak"] - loaded
            found[side].append(row)
    print("| | MACs kept | graph s | rank + cut s | graph MB | rank + cut MB |")
    print("|---|---|---|---|---|---|")
    for side, rows in found.items():
        names = ("kept", "graph_seconds", "step_seconds", "graph_memory", "step_memory")
        kept, *seconds, graph, peak = (statistics.median(row[n] for row in rows) for n in names)
        cells = [side, f"{kept:.3f}", *(f"{value:.2f}" for value in seconds)]
        cells += [f"{value / 2**20:.0f}" for value in (graph, peak)]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
