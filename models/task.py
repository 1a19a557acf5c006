"""The base LightningModule of the three tasks: steps, logging, optimizer and checkpoint record."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor, nn

from regrow.data.batches.sampling import counter_seed
from regrow.data.targets.partial_labels import known_classes, plain_targets
from regrow.errors import BadInput
from regrow.models import masks
from regrow.models.interface import Interface
from regrow.models.nets.allowed import package_of
from regrow.models.nets.build import build_net
from regrow.models.nets.hugging_face import with_config
from regrow.models.optimization import Optimization, load_state_by_name_
from regrow.models.record import buffers, structure
from regrow.models.record.provenance import Provenance

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RECORD_VERSION = 1


class Penalty(nn.Module):
    """A loss term that is added from outside the task, such as distillation or sparsity."""

    name: str = "penalty"

    def forward(self, task: "Task", images: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        """Compute the term, a scalar, from the raw outputs of the task on the images."""
        raise NotImplementedError

    def watching(self, task: "Task") -> AbstractContextManager[None]:
        """Return a context manager around each training step, for hooks into the network."""
        return nullcontext()


class Task(Interface):
    """A network with its losses, predictions, metric and optimizer.

    Shapes: b batch, c classes, h height, w width, n objects.

    Args:
        classes: Class names, in the order of the head's rows.
        size: Height and width of the images, in pixels.
        net: Network: a name that `regrow.models.nets.build.list_nets` lists, such as `small` or
            `torchvision/resnet18`, the import path of an `nn.Module`, or `hf/` and a folder with
            the config of a network of Hugging Face's transformers.
        net_args: Further arguments of the network, plain data.
        weights: Initial weights: `DEFAULT` for the library's pretrained ones (downloaded), or a
            local file with a state dict; null starts from random weights.
        mean: Normalisation: channel means, subtracted from images in [0, 1].
        std: Normalisation: channel standard deviations, which images are then divided by.
        optimization: The optimizer and its learning rate schedule.
        channels_last: Memory format: keep images and weights in channels-last order.
        compile_net: Compile the network with `torch.compile` for training.
        penalties: Further loss terms, such as distillation.

    Raises:
        BadInput: If class names repeat, or are fewer than the task needs.
    """

    mean: Tensor
    std: Tensor
    # Class weights of the loss: whether a task has them, and their values, which training sets.
    class_weights: Literal["balanced"] | None = None
    loss_weights: Tensor | None

    def __init__(
        self,
        classes: list[str],
        size: tuple[int, int],
        *,
        net: str = "small",
        net_args: dict[str, Any] | None = None,
        weights: str | None = None,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        optimization: Optimization = Optimization(),
        channels_last: bool = False,
        compile_net: bool = False,
        penalties: list[Penalty] | None = None,
    ) -> None:
        super().__init__()
        self._refuse(classes, std)
        # Collected from the subclass too; kept as plain data, so that a checkpoint can hold it.
        self.save_hyperparameters(ignore=["weights", "penalties"], logger=False)
        self.net_args = with_config(net, net_args)
        if self.net_args:
            self.hparams["net_args"] = self.net_args
        self.classes = list(classes)
        self.size = (int(size[0]), int(size[1]))
        self.net_name = net
        self.optimization = optimization
        self.channels_last = channels_last
        self.compile_net = compile_net
        self.penalties = nn.ModuleList(penalties or [])
        self.provenance = Provenance()
        # The validation score by which `best.ckpt` is chosen.
        self.chosen_by = self.score
        self.seed = 0
        # Optimizer state of each weight from an earlier run, which the next optimizer begins with.
        self.momenta: dict[str, dict[str, Any]] = {}
        self._hold: masks.Hold | None = None
        self.net = self.fresh_net(weights)
        self._scale = {"mean": tuple(mean), "std": tuple(std)}
        for name, values in self._scale.items():
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("loss_weights", None, persistent=False)
        self.metric = self.make_metric()

    def _refuse(self, classes: list[str], std: tuple[float, float, float]) -> None:
        if len(set(classes)) != len(classes):
            twice = sorted({name for name in classes if classes.count(name) > 1})
            raise BadInput(f"class names must differ: {', '.join(twice)} stand there twice")
        if len(classes) < self.min_classes:
            raise BadInput(
                f"{type(self).__name__} needs {self.min_classes} classes or more, the data has "
                f"{', '.join(classes) or 'none'}"
            )
        if not all(0 < deviation < math.inf for deviation in std):
            raise BadInput(f"task.std is {list(std)}; images are divided by it, so it must be > 0")

    def choose_by_(self, score: str) -> None:
        """Set the validation score by which `best.ckpt` is chosen, in place."""
        self.chosen_by = score

    def add_penalty_(self, penalty: Penalty) -> None:
        """Add a penalty to the loss, in place."""
        self.penalties.append(penalty)

    def forget_momenta_(self) -> None:
        """Drop the optimizer state of earlier runs, in place; the next one begins without."""
        self.momenta = {}

    def _apply(self, fn: Any, recurse: bool = True) -> "Task":
        """Move or cast the task; mean and std are rounded once, from their exact values."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, values in self._scale.items():
            now = self.get_buffer(name)
            exact = torch.tensor(values, dtype=now.dtype, device=now.device)
            setattr(self, name, exact.view(1, 3, 1, 1))
        return self

    @property
    def name(self) -> str:
        """Name of the task in reports and files, such as `classification`."""
        return type(self).__name__.lower()

    @property
    def net_package(self) -> str:
        """Top-level package of the network, which `load` may have to be told to allow."""
        return package_of(self.net_name)

    def fresh_net(self, weights: str | None = None) -> nn.Module:
        """Build the dense (unpruned) network of this task with fresh weights."""
        return build_net(
            self.kind, self.net_name, len(self.classes), self.size, self.net_args, weights
        )

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that rebuild this task, as plain data."""
        current = {**self.hparams, "classes": self.classes, "size": self.size}
        return {str(name): _plain(value) for name, value in current.items()}

    def record(self) -> dict[str, Any]:
        """Return the checkpoint record: what rebuilds this task, and its provenance.

        Plain data and tensors: the task with its arguments, and the structure, buffers and masks in
        which its network differs from the dense one.
        """
        with torch.random.fork_rng(devices=[]):
            dense = self.fresh_net()
        return {
            "version": RECORD_VERSION,
            "task": f"{type(self).__module__}.{type(self).__qualname__}",
            "args": self.arguments(),
            "structure": structure.record(self.net, dense),
            "buffers": buffers.record(self.net, dense),
            "masks": masks.record(self.net),
            "provenance": asdict(self.provenance),
        }

    def prepare(self, images: Tensor) -> Tensor:
        """Normalise images, uint8 or floats in [0, 1], (b, 3, h, w)."""
        if not images.is_floating_point():
            images = images.to(self.mean.dtype) / 255
        images = (images - self.mean) / self.std
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the raw outputs for uint8 images, (b, 3, h, w)."""
        return self.outputs(self.prepare(images))

    def as_labelled(
        self, outputs: dict[str, Tensor], targets: Any
    ) -> tuple[dict[str, Tensor], Any]:
        """Convert raw outputs and targets of a batch to the form that losses and metrics take.

        Handles labels that cover some classes only, see `regrow.data.targets.partial_labels`.

        Args:
            outputs: The raw outputs.
            targets: The targets of the batch.
        """
        known = known_classes(targets)
        if known is not None:
            outputs = self.hide(outputs, known)
        return outputs, plain_targets(targets)

    def example_images(self, batch: int = 1) -> Tensor:
        """Return example input: uint8 noise of the right shape, the same at every call."""
        generator = torch.Generator().manual_seed(0)
        shape = (batch, 3, *self.size)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return images.to(self.mean.device)

    def training_step(self, batch: tuple[Tensor, Any], batch_idx: int) -> Tensor:
        """Compute the loss of one batch, all its terms together, and log them."""
        images, targets = batch
        penalties = [cast(Penalty, penalty) for penalty in self.penalties]
        with ExitStack() as watches:
            for penalty in penalties:
                watches.enter_context(penalty.watching(self))
            outputs = self(images)
            losses = self.losses(*self.as_labelled(outputs, targets))
            for penalty in penalties:
                losses[penalty.name] = penalty(self, images, outputs)
        total = torch.stack(list(losses.values())).sum()
        if self._is_logging():
            terms = {f"train/{name}": value.detach() for name, value in losses.items()}
            self.log_dict({**terms, "train/loss": total.detach()}, batch_size=len(images))
        return total

    def validation_step(self, batch: tuple[Tensor, Any], batch_idx: int) -> None:
        """Add one batch to the metric."""
        images, targets = batch
        outputs, targets = self.as_labelled(self(images), targets)
        self.metric.update(self.predict(outputs), targets)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the metric, and the score of each class."""
        values: Mapping[str, Tensor] = self.metric.compute()
        for name, value in values.items():
            if name == "per_class":
                scores = {f"val_class/{c}": v for c, v in zip(self.classes, value, strict=True)}
                self.log_dict({n: v for n, v in scores.items() if not torch.isnan(v)})
            else:
                self.log(f"val/{name}", value.float(), prog_bar=name == self.score)
        self.metric.reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Build the optimizer, which keeps masked weights at zero.

        The learning rate is set before each step, see `on_train_batch_start`.
        """
        optimizer = self.optimization.build(self.net)
        if self.momenta:
            wanted = self.optimization.remembered
            load_state_by_name_(optimizer, self.net, self.momenta, wanted)
        self._hold = masks.Hold(self.net, optimizer)
        return optimizer

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clear the gradients of masked weights, before they are clipped."""
        if self._hold is not None:
            self._hold.clear_gradients()

    def remask(self, weights: Mapping[str, Tensor]) -> None:
        """Replace masks of the network's weights during training, by name as `masks.remask_`."""
        masks.remask_(self.net, weights)
        if self._hold is not None:
            self._hold.follow()

    def on_fit_start(self) -> None:
        """Set the memory format of the weights, and compile the network if asked to."""
        if self.channels_last:
            self.net.to(memory_format=torch.channels_last)
        if self.compile_net:
            self.net.compile()

    def on_fit_end(self) -> None:
        """Undo the compilation, and end the hold on masked weights."""
        self.net._compiled_call_impl = None
        self._hold = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate and the seed of this step; both depend on counters alone."""
        epoch, epochs = self.current_epoch, self.trainer.max_epochs or 1
        progress = (epoch + batch_idx / max(self.trainer.num_training_batches, 1)) / epochs
        rate = self.optimization.rate(min(progress, 1.0))
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        seed_step(counter_seed(self.seed, epoch, batch_idx, self.global_rank), self.device)
        if self._is_logging():
            self.log("train/lr", rate, batch_size=1)

    def _is_logging(self) -> bool:
        """Whether this step's values are logged; Lightning's `log` costs a millisecond."""
        every: int = self.trainer.log_every_n_steps
        return every > 0 and (self.global_step + 1) % every == 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the record of this task to Lightning's checkpoint."""
        for name in ("hyper_parameters", "hparams_name"):
            checkpoint.pop(name, None)
        metrics = {n: float(v) for n, v in self.trainer.callback_metrics.items()}
        self.provenance.scores = {n: v for n, v in metrics.items() if n.startswith("val")}
        checkpoint["regrow"] = self.record()


def loss_of(task: Task, images: Tensor, targets: Any) -> Tensor:
    """Compute the loss of one batch, all its terms together, on the device of the task.

    Args:
        task: The task; it stays in its current mode.
        images: Images of one batch, uint8 (b, 3, h, w).
        targets: The targets of the images.
    """
    images, targets = move_data_to_device((images, targets), task.mean.device)
    losses = task.losses(*task.as_labelled(task(images), targets))
    return torch.stack(list(losses.values())).sum()


def seed_step(seed: int, device: torch.device) -> None:
    """Seed the random number generators of one step, on the CPU and the device.

    `torch.manual_seed` would do so too, but where CUDA is not in use it queues a call and a stack
    trace at every step: 0.2 ms, and memory that is never freed.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    return value
