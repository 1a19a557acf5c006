"""Coverage of pruning: networks of torchvision, timm and a user, with the proof that it is exact.

    python benchmarks/coverage.py --nets torchvision/resnet18 timm/regnety_002
    python benchmarks/coverage.py --onnx --scopes global    # all; exporting takes the longest

Each network runs in a process of its own, under a limit of time and memory. It has random weights,
all of which are disturbed first: heads and layer scales that begin at zero would make every
comparison of outputs empty. Half of the MACs are removed in one step, or what can be where that is
less, once by the ranking of the whole network and once in equal shares of every layer. The networks
of detection and segmentation are pruned once more with FrozenBatchNorm2d in their backbones. Two
oracles, as shares of the largest value of an output:

- planted: all that makes the chosen channels is set to zero, tensor by tensor, in a float64 copy;
  what reads them stays. When they are cut out, its outputs stay.
- masked: the engine's own mask, of what makes and what reads them, against its cut, in float64, and
  in float32.

`moves` says by how much the planted copy differs from the network as it was: it must not be small.
A row works if planted and masked stay within 1e-9, float32 within 1e-5, the outputs are not
constant and keep their shapes, and the training loss gives a gradient to every parameter that had
one before. Prints one JSON line a row, then a table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from regrow.deploy.runtime import OnnxModel
from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.cost import count_macs, count_params
from regrow.models.detection import Detection
from regrow.models.onnx.graph import export_graph
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.optimizer_state import lost_places
from regrow.prune.channels.records import Groups, Plan
from regrow.prune.channels.surgery import clone, cut_, exact_copy, mask_
from regrow.prune.criteria import Magnitude, score_groups
from regrow.prune.recovery import reestimate_batchnorm_
from regrow.prune.removal import Channels
from regrow.prune.selection import Chooser, Selection
from regrow.prune.target import Target

Scope = Literal["global", "local"]
SCOPES: list[Scope] = ["global", "local"]
CLASSES = ["a", "b", "c", "d", "e"]
SHARE = 0.5
LIMITS = {"planted": 1e-9, "masked": 1e-9, "float32": 1e-5}
LEAST_SPREAD = 1e-3
LABELS = ["resnet18", "resnet50", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny"]
LABELS += ["densenet121", "vit_b_16", "swin_t"]
MASKS = ["fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]
BOXES = ["fasterrcnn_mobilenet_v3_large_320_fpn", "retinanet_resnet50_fpn"]
BOXES += ["ssdlite320_mobilenet_v3_large", "fcos_resnet50_fpn"]
TIMM = ["mobilenetv3_small_050", "efficientnet_lite0", "regnety_002", "convnextv2_atto"]
TIMM += ["ghostnet_050", "repvgg_a0", "cspresnet50", "dla34", "hrnet_w18_small", "res2net50_26w_4s"]
TIMM += ["vit_tiny_patch16_224", "mixer_s32_224", "mobilevit_xxs", "resnest14d", "vgg11_bn"]
NETS = [f"torchvision/{name}" for name in LABELS + MASKS + BOXES]
NETS += [*(f"timm/{name}" for name in TIMM), "__main__.OwnNet"]
COLUMNS = [
    "net",
    "norms",
    "scope",
    "works",
    "asked",
    "macs",
    "params",
    "whole",
    "graph_s",
    "step_s",
]
COLUMNS += ["planted", "masked", "float32", "moves", "onnx", "problem"]


class OwnNet(nn.Module):
    """A user's own network: two branches that are concatenated, then added to by another."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.left = nn.Sequential(nn.Conv2d(32, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU())
        self.right = nn.Sequential(nn.Conv2d(32, 40, 5, 2, 2), nn.InstanceNorm2d(40), nn.SiLU())
        self.mix = nn.Conv2d(64, 64, 3, padding=1, groups=4)
        self.head = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (b, c)."""
        stem = self.stem(images).relu()
        both = torch.cat([self.left(stem), self.right(stem)], 1)
        return self.head((both + self.mix(both)).mean((2, 3)))


def make(net: str, is_frozen: bool) -> Task:
    """Return a task of the network with random weights, none of which is zero by its start."""
    torch.manual_seed(0)
    short = net.removeprefix("torchvision/")
    kind: type[Task] = Classification
    if net.startswith("torchvision/"):
        kind = Detection if short in BOXES else Segmentation if short in MASKS else Classification
    side = 320 if kind is Detection else 224
    task = kind(CLASSES, (side, side), net=net)
    disturb_(task.net)
    task.eval()
    # With fresh statistics, deep norms let hardly anything of an image through.
    reestimate_batchnorm_(task, [(task.example_images(4), None)])
    if is_frozen:
        freeze_(backbone(task))
    rescale_(task)
    return task


def backbone(task: Task) -> nn.Module:
    """Return the backbone of a detector or a segmentation network."""
    return getattr(getattr(task.net, "detector", task.net), "backbone")  # noqa: B009


def freeze_(module: nn.Module) -> None:
    """Put a FrozenBatchNorm2d in the place of every batch norm."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            frozen.load_state_dict(child.state_dict())
            setattr(module, name, frozen)
        else:
            freeze_(child)


@torch.no_grad()
def disturb_(net: nn.Module) -> None:
    """Add noise to all weights."""
    generator = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.add_((0.1 * parameter.abs().mean() + 0.01) * noise)


@torch.no_grad()
def rescale_(task: Task) -> None:
    """Scale the last layers so that outputs are at most 1: a saturated softmax hides everything."""
    largest: dict[nn.Module, Tensor] = {}

    def watch(module: nn.Module, _: Any, output: Tensor) -> None:
        largest[module] = torch.maximum(largest.get(module, torch.tensor(0.0)), output.abs().max())

    handles = [
        task.net.get_submodule(name).register_forward_hook(watch) for name in task.output_layers()
    ]
    task(task.example_images(2))
    for handle in handles:
        handle.remove()
    for module, most in largest.items():
        for parameter in module.parameters():
            parameter.div_(most)


def choose(task: Task, found: Groups, scope: Scope) -> tuple[float, Channels]:
    """Return the share of MACs to keep, half or the least in reach, and the removal to it."""
    selection = Selection(scope=scope)
    dense = {group.layer: group.width for group in found.groups}
    scores = score_groups(task, found.groups, Magnitude())
    chooser = Chooser(task, found.groups, scores, dense, selection)
    least = chooser.costs(chooser.least())["macs"] / count_macs(task)
    share = max(SHARE, least)
    return share, Channels(task, Target(macs=share), selection, Magnitude(), found)


@torch.no_grad()
def planted(task: Task, plan: Plan) -> Task:
    """Return a float64 copy in which all that makes the channels of a plan is zero."""
    twin = exact_copy(task)
    makers = [
        (replace(group, members=tuple(m for m in group.members if m.side == "out")), units)
        for group, units in plan
    ]
    tensors = {**dict(twin.net.named_parameters()), **dict(twin.net.named_buffers())}
    for name, places in lost_places(twin.net, makers).items():
        for dim, gone in places.items():
            if not name.endswith("running_var"):
                tensors[name].index_fill_(dim, torch.tensor(gone), 0)
    return twin


@torch.no_grad()
def difference(one: Task, other: Task) -> float:
    """Compute the largest difference of a raw output over the largest value of that output."""
    images = one.example_images(2)
    before, after = one(images), other(images)
    worst = 0.0
    for name, value in before.items():
        if after[name].shape != value.shape:
            raise ValueError(f"{name} has shape {tuple(after[name].shape)}")
        if value.is_floating_point():
            gap = float((after[name] - value).abs().max() / value.abs().max())
            worst = gap if gap != gap else max(worst, gap)
    return worst


@torch.no_grad()
def is_constant(task: Task) -> bool:
    """Whether some output is nearly the same everywhere, or for both of two images."""
    for value in task(task.example_images(2)).values():
        if value.is_floating_point():
            apart, most = (value[0] - value[-1]).abs().max(), value.abs().max()
            if not min(value.std(), apart) > LEAST_SPREAD * most:
                return True
    return False


def with_gradient(task: Task) -> set[str]:
    """Name the parameters to which the loss of two images gives a finite gradient in training."""
    images, side = task.example_images(2), task.size[0]
    targets: Any = torch.tensor([0, 1])
    if task.kind == "masks":
        targets = (torch.arange(side) % len(CLASSES)).to(torch.uint8).expand(2, side, side)
    if task.kind == "boxes":
        box = torch.tensor([[2.0, 3.0, side / 2, side / 2], [40.0, 20.0, side - 9.0, side - 2.0]])
        targets = [{"boxes": box, "labels": torch.tensor([0, 1])} for _ in range(2)]
    twin = clone(task)
    twin.net.train().zero_grad()
    torch.stack(list(twin.losses(twin(images), targets).values())).sum().backward()
    named = twin.net.named_parameters()
    return {name for name, p in named if p.grad is not None and bool(p.grad.isfinite().all())}


def onnx_difference(task: Task) -> float | str:
    """Compute how far ONNX Runtime is from PyTorch, as a share of the output, or say why not."""
    images = task.example_images(2)
    with tempfile.TemporaryDirectory() as folder:
        try:
            outputs = OnnxModel(export_graph(task, Path(folder) / "model.onnx"))(images)
        except BadInput as error:
            return str(error)
    with torch.no_grad():
        decoded = task.decode(task(images))
    worst = 0.0
    for name, value in decoded.items():
        if value.is_floating_point():
            gap = (value - torch.from_numpy(outputs[name])).abs().max()
            worst = max(worst, float(gap / value.abs().max().clamp_min(1e-30)))
    return worst


def rows_of(net: str, scopes: list[Scope], with_onnx: bool) -> Iterator[dict[str, Any]]:
    """Prune one network in every way, a row each."""
    is_composed = net.removeprefix("torchvision/") in MASKS + BOXES
    for norms in ("batch", "frozen") if is_composed else ("own",):
        task = make(net, norms == "frozen")
        started = time.perf_counter()
        found = find_groups(task)
        graph = time.perf_counter() - started
        for scope in scopes:
            row = {"net": net, "norms": norms, "scope": scope, "graph_s": round(graph, 2)}
            yield row | row_of(task, found, scope, with_onnx)


def row_of(task: Task, found: Groups, scope: Scope, with_onnx: bool) -> dict[str, Any]:
    """Prune a network in one way, and hold the result to everything it must be."""
    share, channels = choose(task, found, scope)
    groups = {group.layer: group for group in channels.groups.groups}
    pruned = clone(task)
    started = time.perf_counter()
    cut = channels.cut_(pruned, [], {"macs": share}, tightly=True)
    step = time.perf_counter() - started
    if cut is None or not cut.removed:
        reason = next(iter(channels.groups.left_whole.values()), "widths are aligned already")
        return {"works": False, "problem": f"nothing can be removed, such as: {reason}"}
    plan = [(groups[layer], units) for layer, units in cut.units.items()]
    dead = planted(task, plan)
    moves, rest = difference(exact_copy(task), dead), clone(dead)
    cut_(rest, plan)
    masked = clone(task)
    mask_(masked, plan)
    errors = {
        "planted": difference(dead, rest),
        "masked": difference(exact_copy(masked), exact_copy(pruned)),
        "float32": difference(masked, pruned),
    }
    lost = with_gradient(task) - with_gradient(pruned)
    problems = [f"{n} {v:.1e}" for n, v in errors.items() if not v <= LIMITS[n]]
    problems += [f"{len(lost)} parameters without a gradient"] if lost else []
    problems += ["outputs are constant"] if is_constant(pruned) or not moves > 1e-6 else []
    problems += [f"refused: {', '.join(channels.refused)}"] if channels.refused else []
    return {
        "works": not problems,
        "asked": round(share, 3),
        "macs": [count_macs(task), count_macs(pruned)],
        "params": [count_params(task.net), count_params(pruned.net)],
        "whole": len(found.left_whole),
        "step_s": round(step, 2),
        **errors,
        "moves": moves,
        "onnx": onnx_difference(pruned) if with_onnx else "",
        "problem": "; ".join(problems),
    }


def guarded(net: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run one network in a process of its own; its rows, and one more if it came to an end."""
    command = [sys.executable, __file__, "--child", net, "--threads", str(options.threads)]
    command += ["--scopes", *options.scopes]
    command += ["--onnx"] if options.onnx else []
    started, end = time.monotonic(), ""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as problems:
        child = subprocess.Popen(command, stdout=out, stderr=problems)
        while child.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - started > options.seconds:
                end = f"took more than {options.seconds} s"
            elif memory_of(child.pid) > options.gigabytes * 2**30:
                end = f"took more than {options.gigabytes} GB"
            if end:
                child.kill()
        out.seek(0)
        problems.seek(0)
        rows = [json.loads(line) for line in out if line.startswith("{")]
        last = problems.read().strip().splitlines()[-1:]
    if child.returncode:
        rows.append({"net": net, "works": False, "problem": end or "".join(last)})
    return rows


def memory_of(pid: int) -> int:
    """Return the resident memory of a process, in bytes; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def cell(value: Any) -> str:
    """Return a value as a cell of the table."""
    if isinstance(value, list):
        return " -> ".join(f"{number / 1e6:,.1f} M" for number in value)
    if isinstance(value, float) and 0 < abs(value) < 1e-2:
        return f"{value:.0e}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Prune all networks, and print rows as they come and the table at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", default=NETS)
    parser.add_argument("--scopes", nargs="+", choices=SCOPES, default=SCOPES)
    parser.add_argument("--onnx", action="store_true", help="also compare with ONNX Runtime")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=900, help="limit of one network")
    parser.add_argument("--gigabytes", type=float, default=12, help="limit of one network")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        for row in rows_of(options.child, options.scopes, options.onnx):
            print(json.dumps(row), flush=True)
        return
    rows = []
    for net in options.nets:
        for row in guarded(net, options):
            rows.append(row)
            print(json.dumps(row), flush=True)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for row in rows:
        print("| " + " | ".join(cell(row.get(name, "")) for name in COLUMNS) + " |")


if __name__ == "__main__":
    main()
