"""Equal compute: what contestants may spend, what they spend, and that a trial is kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from regrow.data.module import GrowingData
from regrow.data.sample import Digits
from regrow.errors import BadInput
from regrow.models.checkpoint import load, net_state, read
from regrow.models.classification import Classification
from regrow.models.cost import count_macs
from regrow.pipelines.experiments.contestants import ComputeTrial, Contestant, Phase
from regrow.pipelines.experiments.equal_compute import EqualCompute, unaugmented
from regrow.pipelines.experiments.trials import run_one
from regrow.prune.criteria import Magnitude, Taylor
from regrow.prune.dropout import DropBlock, HeadDropout, TargetedDropout
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit
from regrow.training.trainer import fine_tune_

IMAGES, BATCH = 48, 16
TAYLOR = Contestant("pruned-taylor", None, lambda seed: Taylor(num_batches=1))
MAGNITUDE = Contestant("pruned-magnitude", None, lambda seed: Magnitude())


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., EqualCompute]:
    """Return a maker of setups: a small network, 48 digits in each split."""

    def make(
        run: str = "run",
        trainer: dict[str, Any] | None = None,
        images: int = IMAGES,
        **changed: Any,
    ) -> EqualCompute:
        data = GrowingData(
            Digits(),
            batch_size=BATCH,
            max_images=images,
            augment=[v2.RandomAffine(8)],
            seed=7,
        )
        data.order_classes(data.classes)
        options = {
            "make": lambda: Classification(data.classes, data.size, net_args={"width": 8}),
            "data": data,
            "fit": Fit(epochs=6, devices=1, accelerator="cpu", trainer=trainer or {}),
            "target": Target(macs=0.5),
            "selection": Selection(round_to=1),
            "num_steps": 2,
            "dense_share": 0.5,
            "folder": tmp_path / run,
        }
        return EqualCompute(**{**options, **changed})

    return make


def dense_macs(setup: EqualCompute) -> int:
    return count_macs(setup.make())


def weights(setup: EqualCompute, name: str, seed: int) -> dict[str, torch.Tensor]:
    return net_state(read(setup.checkpoint(Contestant(name), seed)))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dense_share": 1.0}, r"dense_share is 1\.0"),
        ({"num_steps": 0}, "num_steps is 0"),
        ({"fit": Fit(epochs=6, patience=2)}, r"fit\.patience"),
        ({"fit": Fit(epochs=3)}, r"fit\.epochs is 3: 2 before pruning leave fewer"),
    ],
)
def test_unequal_terms_are_refused(make, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        make(**changed)


@pytest.mark.parametrize(
    ("trainer", "count"),
    [
        ({}, 32),
        ({"limit_train_batches": 1}, 16),
        ({"limit_train_batches": 9}, 32),
        ({"limit_train_batches": 0.5}, 16),
    ],
)
def test_an_epoch_shows_whole_batches(make, trainer: dict[str, Any], count: int) -> None:
    assert make(trainer=trainer, images=41).epoch_images == count
    assert make(trainer=trainer, images=5).epoch_images <= 5


def test_the_dense_network_spends_the_budget(make) -> None:
    setup = make()
    result = run_one(setup, Contestant("dense"), 0)
    macs = dense_macs(setup)
    # Six epochs, and the norms in the end.
    assert result.phases == (
        Phase("training", 6, 6 * IMAGES, macs),
        Phase("measuring", 0, IMAGES, macs),
    )
    assert result.budget == result.compute == 7 * IMAGES * macs
    assert result.epochs == 6


def test_fewer_batches_an_epoch_are_a_smaller_budget(make) -> None:
    setup = make(trainer={"limit_train_batches": 1})
    result = run_one(setup, Contestant("dense"), 0)
    assert result.phases[0].images == 6 * BATCH
    # Norms are measured on whole epochs, of which only one batch is planned for.
    assert result.budget == 7 * BATCH * dense_macs(setup)


def test_the_account_of_a_pruned_network_worked_by_hand(make) -> None:
    setup = make(fit=Fit(epochs=8, devices=1, accelerator="cpu"))
    result = run_one(setup, TAYLOR, 0)
    large, small = dense_macs(setup), count_macs(setup.load(TAYLOR.name, 0))
    assert small <= 0.5 * large
    middle = result.phases[2].macs
    assert 0.5 * large < middle <= 0.75 * large
    measured = 2 * BATCH + IMAGES  # a batch for scores, one for the proof, all for the norms
    first = measured + BATCH  # and one for the sensitivity of layers
    spent = 4 * IMAGES * large + first * large + IMAGES * middle + measured * middle
    left = round((result.budget - spent - IMAGES * small) / (IMAGES * small))
    assert left >= 1
    assert result.phases == (
        Phase("training", 4, 4 * IMAGES, large),
        Phase("measuring", 0, first, large),
        Phase("recovery", 1, IMAGES, middle),
        Phase("measuring", 0, measured, middle),
        Phase("recovery", left, left * IMAGES, small),
        Phase("measuring", 0, IMAGES, small),
    )
    assert abs(result.compute - result.budget) <= 0.5 * IMAGES * small
    assert len(result.cuts) == 2


def test_a_twin_from_scratch_trains_longer_for_the_same_compute(make) -> None:
    setup = make()
    run_one(setup, MAGNITUDE, 0)
    result = run_one(setup, Contestant("scratch", twin_of=MAGNITUDE.name), 0)
    original, twin = (setup.load(name, 0) for name in (MAGNITUDE.name, "scratch"))
    shapes = [{n: p.shape for n, p in task.net.state_dict().items()} for task in (original, twin)]
    assert shapes[0] == shapes[1]
    macs = count_macs(twin)
    expected = round((result.budget - IMAGES * macs) / (IMAGES * macs))
    assert result.epochs == expected > 6
    assert abs(result.compute - result.budget) <= 0.5 * IMAGES * macs
    assert not same(weights(setup, MAGNITUDE.name, 0), weights(setup, "scratch", 0))


def test_a_result_is_a_function_of_contestant_and_seed(make) -> None:
    targeted = Contestant("targeted", TargetedDropout(), lambda seed: Magnitude())
    once, again = make("once"), make("again")
    torch.manual_seed(11)
    first = run_one(once, targeted, 1)
    torch.manual_seed(12)
    run_one(again, Contestant("dropout", HeadDropout()), 1)
    assert run_one(again, targeted, 1) == first
    assert same(weights(once, "targeted", 1), weights(again, "targeted", 1))
    run_one(again, Contestant("dense"), 1)
    run_one(again, Contestant("dense"), 0)
    assert not same(weights(again, "dense", 1), weights(again, "dense", 0))
    assert not same(weights(again, "dense", 1), weights(again, "dropout", 1))


def test_phases_see_other_orders_and_draws_and_the_seed_of_the_data_stays(make) -> None:
    seen = []

    def watch(task, data, fit, run, *, seed: int) -> None:
        seen.append((data.seed, seed))
        fine_tune_(task, data, fit, run, seed=seed)

    setup = make(fine_tune_=watch)
    run_one(setup, MAGNITUDE, 0)
    assert len(set(seen)) == len(seen) == 3
    assert len({order for order, _ in seen}) == len({draws for _, draws in seen}) == 3
    assert setup.data.seed == 7
    # All contestants of a seed begin alike.
    run_one(setup, Contestant("dense"), 0)
    run_one(setup, Contestant("dense"), 1)
    assert seen[3] == seen[0] != seen[4]


def test_scores_are_those_of_the_kept_network(make) -> None:
    setup = make()
    result = run_one(setup, Contestant("dropblock", DropBlock(0.2)), 0)
    task = load(setup.folder / "results" / "dropblock_0.ckpt")
    assert evaluate(task, unaugmented(setup.data)).value == result.train
    assert evaluate(task, setup.data.val_dataloader()).value == result.val
    assert task.provenance.scores == {"train/accuracy": result.train, "val/accuracy": result.val}
    assert task.provenance.data == setup.data.snapshot.hash


def test_what_is_done_is_not_done_again(make) -> None:
    result = run_one(make(), TAYLOR, 0)

    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("trained again")

    setup = make(fine_tune_=fail)
    file, checkpoint = setup.file(TAYLOR, 0), setup.checkpoint(TAYLOR, 0)
    kept = checkpoint.read_bytes()
    again = run_one(setup, TAYLOR, 0)
    assert again == result
    assert isinstance(again, ComputeTrial)
    assert checkpoint.read_bytes() == kept
    # Half a result is none.
    content = json.loads(file.read_text())
    file.unlink()
    with pytest.raises(RuntimeError, match="trained again"):
        run_one(setup, TAYLOR, 0)
    file.write_text(json.dumps(content))
    checkpoint.unlink()
    with pytest.raises(RuntimeError, match="trained again"):
        run_one(setup, TAYLOR, 0)


def test_a_result_of_the_form_before_is_read(make) -> None:
    setup = make()
    result = run_one(setup, MAGNITUDE, 0)
    file = setup.file(MAGNITUDE, 0)
    content = json.loads(file.read_text())
    content["contestant"] = content.pop("candidate")
    file.write_text(json.dumps(content))
    assert run_one(setup, MAGNITUDE, 0) == result


def test_no_test_image_is_looked_at(make, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = make()

    def fail() -> None:
        raise RuntimeError("looked at test images")

    monkeypatch.setattr(setup.data, "test_dataloader", fail)
    assert run_one(setup, MAGNITUDE, 0).cuts


def test_training_images_are_scored_as_they_are(make) -> None:
    setup = make(images=41)
    examples = setup.data.examples("train")
    examples.augment = []
    images = torch.cat([images for images, _ in unaugmented(setup.data)])
    assert torch.equal(images, torch.stack([examples[0, index][0] for index in range(41)]))
    assert setup.data.augment, "the data still augments"
