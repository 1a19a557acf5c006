"""CIFAR-10 on the device, and one recipe of training for every tool that is compared.

Needs torch and torchvision alone: another tool's environment need not have regrow.
"""

import importlib.util
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.datasets import CIFAR10

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE, MARGIN = 32, 4
MOMENTUM, WARMUP, TEMPERATURE = 0.9, 0.05, 4.0


def unpacked(folder: Path) -> Path:
    """Return the folder that torchvision reads, made with the folder's `unpack.py` if need be."""
    if (folder / "cifar-10-batches-py").is_dir():
        return folder
    made = Path(tempfile.mkdtemp(prefix="cifar10-"))
    command = [sys.executable, str(folder / "unpack.py"), str(made)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return made


def normalised(images: Tensor) -> Tensor:
    """Normalise uint8 images, (b, 3, h, w), as the networks expect them."""
    mean, std = _statistics(images.device)
    return (images.float() / 255 - mean) / std


@cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and deviation on the device, copied once: at every step it would have to wait."""
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return mean, std


class Cifar:
    """CIFAR-10 as uint8 tensors on a device, the same images in the same order for every tool.

    Args:
        folder: What `unpacked` gave.
        device: Where the images are held, augmented and read.
        num_train: Number of training images; None takes all that are not held out.
        num_val: Number of training images that are held out, for tools that score on some.
        num_test: Number of test images.
    """

    def __init__(
        self, folder: Path, device: str, num_train: int | None, num_val: int, num_test: int
    ) -> None:
        images, labels = _read(folder, True, device)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).to(device)
        held, rest = order[:num_val], order[num_val:][:num_train]
        self.val = (images[held], labels[held])
        self.padded, self.labels = F.pad(images[rest], (MARGIN,) * 4), labels[rest]
        images, labels = _read(folder, False, device)
        self.test = (images[:num_test], labels[:num_test])

    def epoch(self, seed: int, number: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield shuffled batches, cropped and flipped at random, as a function of both numbers."""
        generator = torch.Generator().manual_seed(1_000_003 * seed + number)
        count, device = len(self.labels), self.labels.device
        order = torch.randperm(count, generator=generator).to(device)
        corners = torch.randint(0, 2 * MARGIN + 1, (2, count), generator=generator).to(device)
        flips = (torch.rand(count, generator=generator) < 0.5).to(device)
        places = torch.arange(SIDE, device=device)
        for start in range(0, count - batch + 1, batch):
            chosen = order[start : start + batch]
            rows = (corners[0, chosen, None] + places)[:, :, None]
            columns = torch.where(flips[chosen, None], places.flip(0), places)
            columns = (corners[1, chosen, None] + columns)[:, None, :]
            # Channels-last in memory, as indexing leaves it.
            images = self.padded[chosen[:, None, None], :, rows, columns].permute(0, 3, 1, 2)
            yield images, self.labels[chosen]


def _read(folder: Path, is_train: bool, device: str) -> tuple[Tensor, Tensor]:
    held = CIFAR10(str(folder), train=is_train, download=False)
    images = torch.from_numpy(held.data).permute(0, 3, 1, 2).contiguous()
    return images.to(device), torch.tensor(held.targets, device=device)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The training of every tool's network, the same as regrow's `Optimization(optimizer="sgd")`.

    Args:
        lr: The peak learning rate.
        weight_decay: Decay of matrices and filters.
        batch: Number of images in a batch.
        smoothing: Share of the target that is spread over all classes.
        distillation: Share of the loss that is the divergence from the unpruned network's softened
            probabilities (Hinton et al., 2015, arXiv 1503.02531); 0 trains on labels alone.
    """

    lr: float
    weight_decay: float
    batch: int
    smoothing: float
    distillation: float = 0.0

    def optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        """Return SGD with Nesterov momentum; biases and norms do not decay."""
        decayed = [p for p in net.parameters() if p.ndim > 1]
        plain = [p for p in net.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": plain}]
        return torch.optim.SGD(groups, lr=self.lr, momentum=MOMENTUM, nesterov=True)

    def rate(self, progress: float) -> float:
        """Compute the learning rate at a share of the training: a linear rise, then a cosine."""
        if progress < WARMUP:
            return self.lr * progress / WARMUP
        return self.lr * 0.5 * (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP)))


class Training:
    """Trains networks on one stream of batches, which is a function of the seed alone.

    Args:
        data: The images.
        recipe: How networks are trained.
        seed: What order and augmentation are functions of.
        teacher: The unpruned network, in evaluation mode; needed for distillation.

    Attributes:
        epochs: Epochs trained so far, whatever network they were spent on.
        passes: Images that went forward and backward.
        seconds: What that took.
    """

    def __init__(
        self, data: Cifar, recipe: Recipe, seed: int, teacher: nn.Module | None = None
    ) -> None:
        self.data, self.recipe, self.seed, self.teacher = data, recipe, seed, teacher
        self.epochs, self.passes, self.seconds = 0, 0, 0.0

    def __call__(
        self,
        net: nn.Module,
        epochs: int,
        optimizer: torch.optim.Optimizer | None = None,
        regularize: Callable[[], None] | None = None,
    ) -> None:
        """Train a network in place, with a schedule of its own.

        Args:
            net: The network; it ends in evaluation mode.
            epochs: Passes over the training images.
            optimizer: By default a new one of the recipe.
            regularize: Changes gradients before each step.
        """
        started = time.perf_counter()
        optimizer = optimizer or self.recipe.optimizer(net)
        num_batches = len(self.data.labels) // self.recipe.batch
        if self.data.labels.is_cuda:
            net.to(memory_format=torch.channels_last)
        net.train()
        for epoch in range(epochs):
            batches = self.data.epoch(self.seed, self.epochs, self.recipe.batch)
            for index, (images, labels) in enumerate(batches):
                for group in optimizer.param_groups:
                    group["lr"] = self.recipe.rate((epoch + index / num_batches) / epochs)
                optimizer.zero_grad()
                self._loss(net, images, labels).backward()
                if regularize is not None:
                    regularize()
                optimizer.step()
                self.passes += len(images)
            self.epochs += 1
        net.eval()
        if self.data.labels.is_cuda:
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - started

    def _loss(self, net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        inputs, share = normalised(images), self.recipe.distillation
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
            logits = net(inputs).float()
            if share and self.teacher is not None:
                with torch.no_grad():
                    wanted = (self.teacher(inputs).float() / TEMPERATURE).log_softmax(1)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.smoothing)
        if not share or self.teacher is None:
            return loss
        own = (logits / TEMPERATURE).log_softmax(1)
        divergence = F.kl_div(own, wanted, reduction="batchmean", log_target=True)
        return (1 - share) * loss + share * TEMPERATURE**2 * divergence


@torch.no_grad()
def reestimate_batchnorm_(net: nn.Module, data: Cifar, batch: int, num_batches: int = 16) -> None:
    """Measure the statistics of all batch norms anew, in place, the same for every tool."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    for images, _ in islice(data.epoch(0, 0, batch), num_batches):
        net(normalised(images))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Compute the share of images that a network gets right, in float32 and evaluation mode."""
    net.eval()
    chunks = zip(images.split(1000), labels.split(1000), strict=True)
    right = sum((net(normalised(i)).argmax(1) == truth).sum() for i, truth in chunks)
    return float(right) / len(labels)


def count_macs(net: nn.Module) -> int:
    """Count the multiply-accumulates of one image, by PyTorch's own counter, for every tool."""
    counter = FlopCounterMode(display=False)
    device = next(net.parameters()).device
    net.eval()
    with counter, torch.no_grad():
        net(torch.zeros(1, 3, SIDE, SIDE, device=device))
    return counter.get_total_flops() // 2


def dense_net(name: str, weights: Path, device: str) -> nn.Module:
    """Return the trained CIFAR ResNet that a tool is given, from regrow's definition of it."""
    net = _cifar_module().CifarResNet(int(name.removeprefix("cifar_resnet")), 10)
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return net.to(device).eval()


def _cifar_module() -> ModuleType:
    """Load the one file that defines it, which needs torch alone."""
    path = Path(__file__).parents[1] / "models" / "nets" / "cifar.py"
    spec = importlib.util.spec_from_file_location("cifar_resnets", path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    # Tools that trace or copy a network look its class up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
