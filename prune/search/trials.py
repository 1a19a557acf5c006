"""Trials of candidates: what they are worth after a short distilled training, not as cut."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from math import inf, isfinite
from typing import Any

import torch
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor

from regrow.data.batches.remaining import without_first
from regrow.data.batches.sampling import counter_seed
from regrow.errors import BadInput
from regrow.models.optimization import Optimization
from regrow.models.task import Task, seed_step
from regrow.prune.channels.records import Plan
from regrow.prune.contributions import Batches
from regrow.prune.search.scoring import Scorer, distance, raw_outputs

# The learning rate rises in this share of the steps, before it falls as a cosine.
WARMUP = 0.1


class Trials:
    """Trials of candidates: each is cut, trained for a few steps, and scored as it was as cut.

    The loss is the task's own and, as distillation from the unpruned network, the distance that
    candidates are scored by. All candidates see the same images, none of which is scored, and the
    same random numbers.

    Args:
        as_cut: Returns the network of a plan as it is before its training, made with the help of
            the batches that are given; the network that it is cut out of stays as it is.
        scorer: Scores the network afterwards, on images that it holds back.
        batches: Training images and targets, the same at every pass; those of the scorer.
        optimization: The optimizer and its peak learning rate; warm-up and schedule are the
            trials' own.
        num_steps: Number of gradient steps; where there are fewer batches, they come again.
        seed: What all that is random is a function of.

    Raises:
        BadInput: If the scorer holds back all images that could be trained on.
    """

    def __init__(
        self,
        as_cut: Callable[[Plan, Batches], Task],
        scorer: Scorer,
        batches: Batches,
        optimization: Optimization,
        num_steps: int,
        seed: int = 0,
    ) -> None:
        self.as_cut, self.scorer = as_cut, scorer
        self.batches = without_first(batches, len(scorer.images))
        self.optimization = replace(optimization, warmup=WARMUP, schedule="cosine")
        self.num_steps, self.seed = num_steps, seed
        if next(self._usable(), None) is None:
            raise BadInput(
                f"search.trials: the {sum(map(len, scorer.images))} training images that are "
                "scored leave no batch to train on; lower search.num_images"
            )

    def __call__(self, plan: Plan) -> float:
        """Return a plan's distance from the unpruned network after its trial.

        Args:
            plan: Groups of the network with the units to remove.

        Returns:
            The distance; infinite if the training left no number.
        """
        device = self.scorer.reference.mean.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            trial = self.as_cut(plan, self.batches)
            with torch.enable_grad():
                self._train_(trial)
            apart = self.scorer.distance(trial)
        return apart if isfinite(apart) else inf

    def _train_(self, trial: Task) -> None:
        device = trial.mean.device
        trial.optimization = self.optimization
        optimizer = trial.configure_optimizers()
        trial.net.train()
        for step, (images, targets) in enumerate(islice(self._endless(), self.num_steps)):
            seed_step(counter_seed(self.seed, step), device)
            for group in optimizer.param_groups:
                group["lr"] = self.optimization.rate((step + 0.5) / self.num_steps)
            optimizer.zero_grad()
            self._loss(trial, *move_data_to_device((images, targets), device)).backward()
            trial.on_before_optimizer_step(optimizer)
            optimizer.step()
        trial.net.eval()

    def _loss(self, trial: Task, images: Tensor, targets: Any) -> Tensor:
        kind = images.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            wanted = raw_outputs(self.scorer.reference, images, on_cpu=False)
            outputs = trial(images)
            losses = trial.losses(*trial.as_labelled(outputs, targets))
            apart = distance(trial, outputs, wanted, self.scorer.shared)
            return torch.stack([*losses.values(), apart]).sum()

    def _endless(self) -> Iterator[tuple[Tensor, Any]]:
        while True:
            yield from self._usable()

    def _usable(self) -> Iterator[tuple[Tensor, Any]]:
        """Yield the batches of one pass that batch norms can be trained on."""
        return (batch for batch in self.batches if len(batch[0]) > 1)
