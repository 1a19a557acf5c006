"""Equal compute: the setup in which contestants train on the same budget.

Compute is training images times multiply-accumulates of a forward pass, at the size that the
network has at the time; a backward pass costs about twice as much again, for all alike. The budget
is that of the dense network for its epochs.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytorch_lightning import seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from regrow.data.batches.examples import collate
from regrow.data.batches.sampling import EpochSampler, ResumableLoader, counter_seed
from regrow.data.module import GrowingData
from regrow.errors import BadInput, CheckFailed
from regrow.metrics.budget import Budget
from regrow.models.checkpoint import load, save
from regrow.models.cost import count_macs
from regrow.models.record.provenance import Provenance, now
from regrow.models.record.structure import fresh_twin
from regrow.models.task import Task
from regrow.pipelines.experiments.contestants import ComputeTrial, Contestant, Phase
from regrow.pipelines.experiments.trials import Setup
from regrow.prune.criteria import Criterion
from regrow.prune.dropout import Dropout
from regrow.prune.engine import prune
from regrow.prune.recovery import reestimate_batchnorm_
from regrow.prune.removal import Channels
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.training.evaluation import Evaluation, evaluate
from regrow.training.fit import Fit
from regrow.training.trainer import fine_tune_
from regrow.training.verification import unlike_saved

NUM_BATCHES = 16  # that norms are measured on when a contestant is done
RESULTS = "results"


@dataclass(frozen=True, slots=True)
class EqualCompute(Setup[Contestant, ComputeTrial]):
    """The terms of a comparison of dropout with pruning.

    Args:
        make: Builds the dense task; its weights follow torch's generator.
        data: The images. Splits stay; order and augmentation are functions of its seed, the
            contestants' seed and the phase of training.
        fit: How long the dense network trains, and on what.
        target: The cost that pruned networks come down to.
        selection: Which channels may go.
        num_steps: In how many steps they go, with an epoch of training after each but the last.
        dense_share: Share of the epochs before pruning, in (0, 1); at least one epoch.
        folder: The run's folder, whose `results` hold the trials.
        allow: Other people's packages that the network may come from.
        command: The command, for the checkpoints.
        fine_tune_: Trains a network in place, as `regrow.training.trainer.fine_tune_` does.
    """

    make: Callable[[], Task]
    data: GrowingData
    fit: Fit
    target: Target
    selection: Selection
    num_steps: int
    dense_share: float
    folder: Path
    allow: tuple[str, ...] = ()
    command: str = ""
    fine_tune_: Callable[..., None] = fine_tune_

    def __post_init__(self) -> None:
        """Refuse what leaves no room for recovery, or would not be equal compute."""
        if not 0 < self.dense_share < 1:
            raise BadInput(f"dense_share is {self.dense_share}, it must lie in (0, 1)")
        if self.num_steps < 1:
            raise BadInput(f"num_steps is {self.num_steps}, it must be at least 1")
        if self.fit.patience is not None:
            raise BadInput("fit.patience would end some early; compute must be equal: set it null")
        if self.fit.epochs < self.dense_epochs + self.num_steps:
            raise BadInput(
                f"fit.epochs is {self.fit.epochs}: {self.dense_epochs} before pruning leave fewer "
                f"than one for each of the {self.num_steps} steps; raise it, or lower num_steps"
            )

    @property
    def dense_epochs(self) -> int:
        """Count the epochs before pruning."""
        return max(1, round(self.dense_share * self.fit.epochs))

    @property
    def epoch_images(self) -> int:
        """Count the training images that an epoch shows."""
        loader = self.data.train_dataloader()
        limit = self.fit.trainer.get("limit_train_batches", 1.0)
        whole = isinstance(limit, int)
        batches = min(limit, len(loader)) if whole else int(limit * len(loader))
        return min(batches * self.data.batch_size, len(loader.sampler))  # type: ignore[arg-type]

    def file(self, candidate: Contestant, seed: int) -> Path:
        """Return the path of a trial's JSON."""
        return self.folder / RESULTS / f"{candidate.name}_{seed}.json"

    def checkpoint(self, candidate: Contestant, seed: int) -> Path:
        """Return the path of a trial's network."""
        return self._checkpoint(candidate.name, seed)

    def _checkpoint(self, name: str, seed: int) -> Path:
        return self.folder / RESULTS / f"{name}_{seed}.ckpt"

    def read(self, values: Mapping[str, Any]) -> ComputeTrial:
        """Return the trial that the values of a JSON stand for."""
        return ComputeTrial.of(values)

    def train(self, candidate: Contestant, seed: int) -> ComputeTrial:
        """Train one contestant at one seed; the trial is a function of setup, both, and no more.

        Args:
            candidate: The contestant; a twin's original must have been trained.
            seed: The seed of weights, order, augmentation and dropout.

        Raises:
            CheckFailed: If the checkpoint is not the network that was scored.
        """
        task, trial = _Training(self, candidate, seed).run()
        snapshot, path = self.data.snapshot, self.checkpoint(candidate, seed)
        task.provenance = Provenance(
            data=snapshot.hash,
            manifest=snapshot.manifest().to_dict(),
            scores={f"train/{task.score}": trial.train, f"val/{task.score}": trial.val},
            command=self.command,
            date=now(),
        )
        save(path, task)
        unlike = unlike_saved(path, task, self.data, self.allow)
        if unlike is not None:
            raise CheckFailed(unlike)
        return trial

    def load(self, name: str, seed: int) -> Task:
        """Load the network of a contestant, on the device that trains."""
        return load(self._checkpoint(name, seed), allow=self.allow).to(self.fit.device)

    def evaluate(self, candidate: Contestant, seed: int) -> Evaluation:
        """Score the network of a contestant on test images."""
        return evaluate(self.load(candidate.name, seed), self.data.test_dataloader())


class _Training:
    """The training of one contestant at one seed, with its account."""

    def __init__(self, setup: EqualCompute, contestant: Contestant, seed: int) -> None:
        self.setup, self.contestant, self.seed = setup, contestant, seed
        self.phases: list[Phase] = []
        self.cuts: list[float] = []
        seed_everything(seed, verbose=False)
        self.task = setup.make().to(setup.fit.device)
        self.epoch_images = setup.epoch_images
        # What it takes to measure the norms in the end.
        self.settling = min(NUM_BATCHES * setup.data.batch_size, self.epoch_images)
        images = setup.fit.epochs * self.epoch_images + self.settling
        self.budget = images * count_macs(self.task)

    def run(self) -> tuple[Task, ComputeTrial]:
        setup, contestant, task = self.setup, self.contestant, self.task
        if contestant.twin_of is not None:
            original = setup.load(contestant.twin_of, self.seed)
            task.net = fresh_twin(original.net, task.fresh_net().to(task.mean))
        if contestant.criterion is None:
            self._train_(task, "training", self._epochs_left(task), contestant.dropout)
        else:
            self._train_(task, "training", setup.dense_epochs, contestant.dropout)
            task = self._prune(task, contestant.criterion(self.seed))
            self._train_(task, "recovery", self._epochs_left(task))
        self._settle_(task)
        train_score = evaluate(task, unaugmented(setup.data)).value
        val_score = evaluate(task, setup.data.val_dataloader()).value
        scores = (train_score, val_score)
        return task, ComputeTrial(
            contestant.name, self.seed, *scores, self.budget, tuple(self.phases), tuple(self.cuts)
        )

    def _epochs_left(self, task: Task) -> int:
        """Return the whole number of epochs that comes nearest to the rest of the budget."""
        rest = self.budget - sum(phase.compute for phase in self.phases)
        images = rest / count_macs(task) - self.settling
        return max(0, round(images / self.epoch_images))

    def _train_(self, task: Task, name: str, epochs: int, dropout: Dropout | None = None) -> None:
        setup, number = self.setup, len(self.phases)
        fit = replace(setup.fit, epochs=epochs)
        macs, seen = count_macs(task), 0

        def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            nonlocal seen
            seen += len(inputs[0])

        draws = counter_seed(self.seed, number)
        with dropout.applied(task) if dropout is not None else nullcontext():
            handle = task.register_forward_pre_hook(count)
            try:
                with setup.data.another_order(draws):
                    setup.fine_tune_(task, setup.data, fit, setup.folder, seed=draws)
            finally:
                handle.remove()
        self.phases.append(Phase(name, epochs, seen, macs))

    def _settle_(self, task: Task) -> None:
        """Measure the norms anew, the same for all; after dropout they have seen its noise.

        Source: Li et al., Understanding the Disharmony between Dropout and Batch Normalization by
        Variance Shift, 2018, arXiv 1801.05134, who look for other places for dropout instead.
        """
        images = _Counted(self.setup.data.train_dataloader())
        reestimate_batchnorm_(task, images, NUM_BATCHES)
        self.phases.append(Phase("measuring", 0, images.take(), count_macs(task)))

    def _prune(self, task: Task, criterion: Criterion) -> Task:
        setup, data = self.setup, self.setup.data
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
            if len(self.cuts) < setup.num_steps:
                self._train_(work, "recovery", min(1, self._epochs_left(work)))

        result = prune(
            task,
            Channels(task, setup.target, setup.selection, criterion),
            train_loader=images,
            val_loader=data.val_dataloader(),
            # Test images are looked at when all contestants are done.
            test_loader=data.val_dataloader(),
            num_steps=setup.num_steps,
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
        """Return the count, and begin again."""
        count, self.count = self.count, 0
        return count


def unaugmented(data: GrowingData) -> DataLoader[Any]:
    """Return the training images as they are, in order, each once."""
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
