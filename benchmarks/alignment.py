"""Speed of aligned channel widths: regrow beside torch-pruning's unaligned cut.

    python benchmarks/alignment.py --rounds 100
    python benchmarks/alignment.py --rounds 100 --runtime openvino   # pip install openvino

The same network is cut to the same share of its MACs by regrow, whose widths are multiples of
`--round-to`, and by torch-pruning, as it cuts by itself: by magnitude, in 400 small steps, with no
rounding. Both are exported by the same code and run in one thread of the runtime, the dense
network beside them, one call each in every round; the time is that of the process's own CPU, which
a busy machine disturbs least. Weights are random: what the two are worth in accuracy is
`pruners.py`'s to say.

Prints one JSON line a share and scope, then a table: medians of the ratios over rounds, with their
quartiles. `of MACs` is regrow's speed-up divided by its reduction of the MACs.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from importlib.metadata import version
from typing import Any, Literal

import onnxruntime
import torch
import torch_pruning

from regrow.models.classification import Classification
from regrow.models.cost import count_macs
from regrow.models.onnx.graph import build_graph, fix_batch_
from regrow.models.task import Task
from regrow.prune.channels.records import widths
from regrow.prune.channels.surgery import clone
from regrow.prune.removal import Channels
from regrow.prune.selection import Selection
from regrow.prune.target import Target

Scope = Literal["global", "local"]
SMALL_STEPS, WARM_UP = 400, 5


def by_regrow(task: Task, share: float, scope: Scope, round_to: int) -> Task:
    """Cut a copy to a share of its MACs, aligned."""
    channels = Channels(task, Target(macs=share), Selection(scope=scope, round_to=round_to))
    pruned = clone(task)
    channels.cut_(pruned, [], {"macs": share}, tightly=True)
    return pruned


def by_torch_pruning(task: Task, share: float, scope: Scope) -> Task:
    """Cut a copy to a share of its MACs in steps so small that it is hardly missed."""
    pruned, full = clone(task), count_macs(task)
    pruner = torch_pruning.pruner.MagnitudePruner(
        pruned.net,
        task.prepare(task.example_images(1)),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=scope == "global",
        pruning_ratio=1.0,
        iterative_steps=SMALL_STEPS,
        ignored_layers=[pruned.net.get_submodule(name) for name in task.output_layers()],
        # Its defaults are dicts that all pruners of a process share.
        in_channel_groups={},
        out_channel_groups={},
    )
    while count_macs(pruned) > full * share and pruner.current_step < SMALL_STEPS:
        pruner.step()
    return pruned.eval()


def in_openvino(task: Task) -> Callable[[], Any]:
    """Return a call of the exported network on one image, in one thread of OpenVINO."""
    import openvino

    model = build_graph(task)
    fix_batch_(model, 1)
    options = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(model.SerializeToString()), "CPU", options
    )
    request, images = compiled.create_infer_request(), task.example_images(1).numpy()
    return lambda: request.infer([images])


def in_onnxruntime(task: Task) -> Callable[[], Any]:
    """Return a call of the exported network on one image, in one thread of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = build_graph(task).SerializeToString()
    running = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    images = task.example_images(1).numpy()
    return lambda: running.run(None, {"images": images})


RUNTIMES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


def times(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Time all calls in every round, each beginning as often as any other; in milliseconds."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(WARM_UP + rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            started = time.process_time()
            calls[name]()
            if number >= WARM_UP:
                spent[name].append(1000 * (time.process_time() - started))
    return spent


def quartiles(one: list[float], other: list[float]) -> list[float]:
    """Compute the quartiles of the ratio of two lists, round by round; the median is the second."""
    return statistics.quantiles([a / b for a, b in zip(one, other, strict=True)], n=4)


def measure(task: Task, share: float, scope: Scope, options: argparse.Namespace) -> dict[str, Any]:
    """Cut by both tools, and time them beside the dense network."""
    cut = {
        "dense": task,
        "regrow": by_regrow(task, share, scope, options.round_to),
        "torch-pruning": by_torch_pruning(deepcopy(task), share, scope),
    }
    macs = {name: count_macs(one) for name, one in cut.items()}
    prepared = RUNTIMES[options.runtime]
    spent = times({name: prepared(one) for name, one in cut.items()}, options.rounds)
    speedups = {n: quartiles(spent["dense"], spent[n]) for n in cut if n != "dense"}
    fewer = macs["dense"] / macs["regrow"]
    return {
        "net": options.net,
        "share": share,
        "scope": scope,
        "macs": macs,
        "milliseconds": {name: statistics.median(each) for name, each in spent.items()},
        "speedup": speedups,
        "beside": quartiles(spent["torch-pruning"], spent["regrow"]),
        "of_macs": [ratio / fewer for ratio in speedups["regrow"]],
        "widths": {name: sorted(set(widths(one.net).values())) for name, one in cut.items()},
        "runtime": f"{options.runtime} {version(options.runtime)}",
    }


def main() -> None:
    """Measure every share and scope."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", default="torchvision/resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.8, 0.6, 0.5, 0.35])
    parser.add_argument("--scopes", nargs="+", default=["global", "local"])
    parser.add_argument("--round-to", type=int, default=16)
    parser.add_argument("--runtime", choices=list(RUNTIMES), default="onnxruntime")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch, while it prunes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    classes = [str(number) for number in range(1000)]
    task = Classification(classes, (options.size, options.size), net=options.net).eval()
    lines = [
        "| net | scope | MACs kept: regrow, torch-pruning | ms: dense, regrow, torch-pruning "
        "| regrow's speed-up | beside torch-pruning | of MACs |",
        "|---|---|---|---|---|---|---|",
    ]
    for share in options.shares:
        for scope in options.scopes:
            row = measure(task, share, scope, options)
            print(json.dumps(row), flush=True)
            kept = [row["macs"][n] / row["macs"]["dense"] for n in ("regrow", "torch-pruning")]
            cells = [row["net"], scope, ", ".join(f"{part:.4f}" for part in kept)]
            cells.append(", ".join(f"{spent:.2f}" for spent in row["milliseconds"].values()))
            for figures in (row["speedup"]["regrow"], row["beside"], row["of_macs"]):
                low, middle, high = figures
                cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
            lines.append("| " + " | ".join(cells) + " |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
