"""Dropout against pruning: contestants that train on the same budget of compute.

Compute is training images times multiply-accumulates of a forward pass, at the size that the
network has at the time; a backward pass costs about twice as much again, for all alike. The budget
is what the dense network takes for its epochs.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pytorch_lightning import seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from regrow.data.examples import collate
from regrow.data.module import GrowingData
from regrow.data.sampling import EpochSampler, ResumableLoader, counter_seed
from regrow.errors import CheckFailed
from regrow.files import read_json, write_json
from regrow.metrics.budget import Budget
from regrow.models.checkpoint import load, save
from regrow.models.cost import count_macs
from regrow.models.provenance import Provenance, now
from regrow.models.structure import fresh_twin
from regrow.models.task import Task
from regrow.pipelines.experiments.contestants import Contestant, Phase, Recipe, Result
from regrow.prune.criteria import Criterion
from regrow.prune.dropout import Dropout
from regrow.prune.engine import prune
from regrow.prune.recovery import reestimate_batchnorm_
from regrow.prune.removal import Channels
from regrow.training.evaluation import evaluate
from regrow.training.trainer import fine_tune_
from regrow.training.verification import unlike_saved

NUM_BATCHES = 16  # that norms are measured on when a contestant is done


def compete(recipe: Recipe, contestant: Contestant, seed: int) -> Result:
    """Train one contestant at one seed and keep its network, unless that is done already.

    The checkpoint is written first and the JSON after it, each atomically: where there is a JSON,
    all is there. The result is a function of recipe, contestant and seed.

    Args:
        recipe: What all share.
        contestant: Which one; a twin's original must have been trained.
        seed: The seed of weights, order, augmentation and dropout.

    Raises:
        CheckFailed: If the checkpoint is not the network that was scored.
    """
    file = result_file(recipe.run, contestant.name, seed)
    if file.is_file() and file.with_suffix(".ckpt").is_file():
        return _read(file)
    task, result = _Training(recipe, contestant, seed).run()
    snapshot = recipe.data.snapshot
    name = task.score
    task.provenance = Provenance(
        data=snapshot.hash,
        manifest=snapshot.manifest().to_dict(),
        scores={f"train/{name}": result.train, f"val/{name}": result.val},
        command=recipe.command,
        date=now(),
    )
    save(file.with_suffix(".ckpt"), task)
    unlike = unlike_saved(file.with_suffix(".ckpt"), task, recipe.data, recipe.allow)
    if unlike is not None:
        raise CheckFailed(unlike)
    write_json(file, asdict(result), indent=2)
    return result


def result_file(run: Path, name: str, seed: int) -> Path:
    """Name the JSON of a contestant at a seed; its checkpoint lies beside it, as `.ckpt`."""
    return run / "results" / f"{name}_{seed}.json"


def trained(recipe: Recipe, name: str, seed: int) -> Task:
    """Load the network of a contestant, on the device that trains."""
    path = result_file(recipe.run, name, seed).with_suffix(".ckpt")
    return load(path, allow=recipe.allow).to(recipe.fit.device)


class _Training:
    """The training of one contestant at one seed, with its account."""

    def __init__(self, recipe: Recipe, contestant: Contestant, seed: int) -> None:
        self.recipe, self.contestant, self.seed = recipe, contestant, seed
        self.phases: list[Phase] = []
        self.cuts: list[float] = []
        seed_everything(seed, verbose=False)
        self.task = recipe.make().to(recipe.fit.device)
        self.epoch_images = recipe.epoch_images
        # What it takes to measure the norms in the end.
        self.settling = min(NUM_BATCHES * recipe.data.batch_size, self.epoch_images)
        images = recipe.fit.epochs * self.epoch_images + self.settling
        self.budget = images * count_macs(self.task)

    def run(self) -> tuple[Task, Result]:
        recipe, contestant, task = self.recipe, self.contestant, self.task
        if contestant.twin_of is not None:
            original = trained(recipe, contestant.twin_of, self.seed)
            task.net = fresh_twin(original.net, task.fresh_net().to(task.mean))
        if contestant.criterion is None:
            self._train_(task, "training", self._epochs_left(task), contestant.dropout)
        else:
            self._train_(task, "training", recipe.dense_epochs, contestant.dropout)
            task = self._prune(task, contestant.criterion(self.seed))
            self._train_(task, "recovery", self._epochs_left(task))
        self._settle_(task)
        train_score = evaluate(task, unaugmented(recipe.data)).value
        val_score = evaluate(task, recipe.data.val_dataloader()).value
        scores = (train_score, val_score)
        return task, Result(
            contestant.name, self.seed, *scores, self.budget, tuple(self.phases), tuple(self.cuts)
        )

    def _epochs_left(self, task: Task) -> int:
        """Give the whole number of epochs that comes nearest to the rest of the budget."""
        rest = self.budget - sum(phase.compute for phase in self.phases)
        images = rest / count_macs(task) - self.settling
        return max(0, round(images / self.epoch_images))

    def _train_(self, task: Task, name: str, epochs: int, dropout: Dropout | None = None) -> None:
        recipe, number = self.recipe, len(self.phases)
        fit = replace(recipe.fit, epochs=epochs)
        macs, seen = count_macs(task), 0

        def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal seen
            seen += len(inputs[0])

        draws = counter_seed(self.seed, number)
        with dropout.applied(task) if dropout is not None else nullcontext():
            handle = task.register_forward_pre_hook(count)
            try:
                with recipe.data.another_order(draws):
                    fine_tune_(task, recipe.data, fit, recipe.run, seed=draws)
            finally:
                handle.remove()
        self.phases.append(Phase(name, epochs, seen, macs))

    def _settle_(self, task: Task) -> None:
        """Measure the norms anew, the same for all; after dropout they have seen its noise.

        Source: Li et al., Understanding the Disharmony between Dropout and Batch Normalization by
        Variance Shift, 2018, arXiv 1801.05134, who look for other places for dropout instead.
        """
        images = _Counted(self.recipe.data.train_dataloader())
        reestimate_batchnorm_(task, images, NUM_BATCHES)
        self.phases.append(Phase("measuring", 0, images.take(), count_macs(task)))

    def _prune(self, task: Task, criterion: Criterion) -> Task:
        recipe, data = self.recipe, self.recipe.data
        images, macs = _Counted(data.train_dataloader()), count_macs(task)

        def charge() -> None:
            # Scores are of the network before the cut, statistics of the smaller one after it.
            if count := images.take():
                self.phases.append(Phase("measuring", 0, count, macs))

        def recover(work: Task, index: int) -> None:
            nonlocal macs
            charge()
            macs = count_macs(work)
            self.cuts.append(evaluate(work, data.val_dataloader()).value)
            if len(self.cuts) < recipe.num_steps:
                self._train_(work, "recovery", min(1, self._epochs_left(work)))

        result = prune(
            task,
            Channels(task, recipe.target, recipe.selection, criterion),
            train_loader=images,
            val_loader=data.val_dataloader(),
            # Test images are looked at when all contestants are done.
            test_loader=data.val_dataloader(),
            num_steps=recipe.num_steps,
            adapts=False,
            budget=Budget(max_drop=1.0),  # equal compute is the budget here, not the score
            recover=recover,
        )
        charge()
        return result.task


class _Counted:
    """Images and targets of a loader, counted when they are read."""

    def __init__(self, loader: ResumableLoader) -> None:
        self.loader, self.count = loader, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        for images, targets in self.loader:
            self.count += len(images)
            yield images, targets

    def take(self) -> int:
        """Give the count, and begin again."""
        count, self.count = self.count, 0
        return count


def unaugmented(data: GrowingData) -> DataLoader[Any]:
    """Give the training images as they are, in order, each once."""
    examples = data.examples("train")
    examples.augment = []
    sampler = EpochSampler(len(examples), shuffle=False)
    return DataLoader(
        examples,
        batch_size=data.batch_size,
        sampler=sampler,
        num_workers=data.num_workers,
        collate_fn=collate,
    )


def _read(file: Path) -> Result:
    values = read_json(file)
    phases = tuple(Phase(**phase) for phase in values.pop("phases"))
    return Result(**{**values, "phases": phases, "cuts": tuple(values["cuts"])})
