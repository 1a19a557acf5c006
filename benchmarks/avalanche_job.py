"""The side of `avalanche_replay.py` that runs in Avalanche's environment, which has no regrow.

    ENV/bin/python benchmarks/avalanche_job.py FOLDER

FOLDER holds `job.json`; `trained.json` and the weights, `net.ckpt`, are left there.
"""

import argparse
import json
import random
import time
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from cifar_recipe import Recipe, dense_net
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2


class Course:
    """Avalanche's plugin of the schedule: sets the rate before each step, and ends the training.

    Args:
        recipe: The schedule.
        steps: The number of optimizer steps.
    """

    def __init__(self, recipe: Recipe, steps: int) -> None:
        self.recipe, self.steps = recipe, steps
        self.done, self.images = 0, 0

    def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Set the rate."""
        for group in strategy.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.done / self.steps)

    def after_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Count the step, and stop after the last one."""
        self.done += 1
        self.images += len(strategy.mb_x)
        if self.done == self.steps:
            strategy.stop_training()


def train_with_avalanche(folder: Path) -> None:
    """Train the network that a folder's job.json asks for, and score it."""
    begun, job = time.process_time(), json.loads((folder / "job.json").read_text(encoding="utf-8"))
    for seeded in (torch.manual_seed, random.seed, np.random.seed):
        seeded(job["seed"])
    start, batch = Path(job["start"]), job["batch"]
    held = torch.load(start / "images.pt", weights_only=True)
    net = dense_net(job["net"], start / "weights.pt", "cpu")
    (images, labels), side = held["train"], held["train"][0].shape[-1]
    seen = v2.Compose([v2.ToDtype(torch.float32, True), v2.Normalize(held["mean"], held["std"])])
    crop = v2.RandomCrop(side, padding=side // 8)
    data: Any = TensorDataset(images, labels)
    data.targets = labels.tolist()  # where Avalanche looks for them
    stream = import_module("avalanche.benchmarks").nc_benchmark(
        data,
        data,  # not used: both sides score all images
        n_experiences=2,
        task_labels=False,
        shuffle=False,
        fixed_class_order=list(range(len(held["classes"]))),
        per_exp_classes={0: held["num_old"]},
        train_transform=v2.Compose([crop, v2.RandomHorizontalFlip(), seen]),
    )
    steps = job["epochs"] * (len(labels) // batch)
    replay_(net, stream.train_stream, job, held, steps)
    scores = {split: score(net, seen, *held[split]) for split in ("val", "test")}
    old, new = scores["test"][: held["num_old"]], scores["test"][held["num_old"] :]
    trained = {
        "steps": steps,
        "val": fmean(scores["val"]),
        "parts": {"old": fmean(old), "new": fmean(new), "all": fmean([*old, *new])},
        "seconds": time.process_time() - begun,
    }
    torch.save(net.state_dict(), folder / "net.ckpt")
    made = folder / "trained.json.part"
    made.write_text(json.dumps(trained), encoding="utf-8")
    made.rename(folder / "trained.json")


def replay_(
    net: nn.Module, stream: Any, job: dict[str, Any], held: dict[str, Any], steps: int
) -> None:
    """Train on the second of two experiences, with what is left of the first as the buffer."""
    modules = "plugins", "storage_policy", "supervised"
    plugins, policy, strategies = (import_module(f"avalanche.training.{name}") for name in modules)
    (old, new), batch, num_old = stream, job["batch"], held["num_old"]
    share = 0.5 if job["split"] == "half" else num_old / len(held["classes"])
    batch_mem = round(share * batch)
    most = int(held["train"][1][held["is_memory"]].bincount().max())
    buffer = policy.ClassBalancedBuffer(most * num_old)
    used = [plugins.ReplayPlugin(buffer.max_size, None, batch_mem, storage_policy=buffer)]
    if job["lwf"] > 0:
        used.append(plugins.LwFPlugin(job["lwf"], temperature=2))
    recipe = Recipe(lr=job["rate"], weight_decay=5e-4, batch=batch, smoothing=0.0)
    course = Course(recipe, steps)
    strategy = strategies.Naive(
        model=net,
        optimizer=recipe.optimizer(net),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=batch - batch_mem,
        train_epochs=steps,  # more than there will be
        plugins=[*used, course],
        evaluator=None,
    )
    net.train()  # as at the end of an experience; LwFPlugin's copy stays so
    strategy.experience = old
    for plugin in used:
        plugin.after_training_exp(strategy)
    num_memory = len(buffer.buffer)  # it is another one after the training
    strategy.train(new, drop_last=True)
    found, wanted = (num_memory, course.images), (int(held["is_memory"].sum()), steps * batch)
    if found != wanted:
        raise RuntimeError(f"{found} images in the memory and in all steps, not {wanted}")


@torch.no_grad()
def score(net: nn.Module, seen: v2.Transform, images: Tensor, labels: Tensor) -> list[float]:
    """Return the accuracy on each class's images."""
    net.eval()
    guesses = torch.cat([net(seen(part)).argmax(1) for part in images.split(1000)])
    return [float((guesses[labels == c] == c).double().mean()) for c in labels.unique()]


def main() -> None:
    """Read the command line, and do the job."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="holds job.json")
    torch.set_num_threads(1)
    train_with_avalanche(parser.parse_args().folder)


if __name__ == "__main__":
    main()
