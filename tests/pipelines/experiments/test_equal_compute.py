"""Contestants: who they are, what they may spend, what they spend, and that a result is kept."""

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
from regrow.pipelines.experiments import equal_compute
from regrow.pipelines.experiments.contestants import Contestant, Phase, Recipe, Result, enter
from regrow.pipelines.experiments.equal_compute import compete, result_file, trained, unaugmented
from regrow.prune.criteria import Magnitude, Random, Taylor
from regrow.prune.dropout import DropBlock, HeadDropout, TargetedDropout
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit

IMAGES, BATCH = 48, 16
TAYLOR = Contestant("pruned-taylor", None, lambda seed: Taylor(num_batches=1))
MAGNITUDE = Contestant("pruned-magnitude", None, lambda seed: Magnitude())


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Recipe]:
    """Give a maker of recipes: a small network, 48 digits in each split."""

    def make(
        run: str = "run",
        trainer: dict[str, Any] | None = None,
        images: int = IMAGES,
        **changed: Any,
    ) -> Recipe:
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
            "run": tmp_path / run,
        }
        return Recipe(**{**options, **changed})

    return make


def dense_macs(recipe: Recipe) -> int:
    return count_macs(recipe.make())


def weights(recipe: Recipe, name: str, seed: int) -> dict[str, torch.Tensor]:
    return net_state(read(result_file(recipe.run, name, seed).with_suffix(".ckpt")))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_everyone_enters_in_an_order_in_which_originals_come_before_twins() -> None:
    dropouts = [HeadDropout(0.3), HeadDropout(0.5), DropBlock(0.1)]
    found = enter(dropouts, TargetedDropout(0.4), [Magnitude(), Taylor()])
    assert [c.name for c in found] == [
        "dense",
        "dropout-0.3",
        "dropout-0.5",
        "dropblock-0.1",
        "pruned-magnitude",
        "pruned-taylor",
        "targeted-0.4-pruned",
        "pruned-random",
        "scratch",
    ]
    kinds = ["dense", *["dropout"] * 3, *["pruned"] * 4, "scratch"]
    assert [c.kind for c in found] == kinds
    ranked = [type(c.criterion(3)) for c in found if c.criterion is not None]
    assert ranked == [Magnitude, Taylor, Magnitude, Random]
    assert found[-2].criterion(3).seed == 3, "another lot for each seed"
    assert found[-1].twin_of == "pruned-magnitude"


def test_contestants_need_names_of_their_own_and_a_criterion() -> None:
    with pytest.raises(BadInput, match=r"two contestants are called dropout-0\.5"):
        enter([HeadDropout(0.5), HeadDropout(0.5)], TargetedDropout(), [Magnitude()])
    with pytest.raises(BadInput, match="two contestants are called pruned-random"):
        enter([], TargetedDropout(), [Random()])
    with pytest.raises(BadInput, match="criteria is empty"):
        enter([], TargetedDropout(), [])


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
    recipe = make()
    result = compete(recipe, Contestant("dense"), 0)
    macs = dense_macs(recipe)
    # Six epochs, and the norms in the end.
    assert result.phases == (
        Phase("training", 6, 6 * IMAGES, macs),
        Phase("measuring", 0, IMAGES, macs),
    )
    assert result.budget == result.compute == 7 * IMAGES * macs
    assert result.epochs == 6


def test_fewer_batches_an_epoch_are_a_smaller_budget(make) -> None:
    recipe = make(trainer={"limit_train_batches": 1})
    result = compete(recipe, Contestant("dense"), 0)
    assert result.phases[0].images == 6 * BATCH
    # Norms are measured on whole epochs, of which only one batch is planned for.
    assert result.budget == 7 * BATCH * dense_macs(recipe)


def test_the_account_of_a_pruned_network_worked_by_hand(make) -> None:
    recipe = make(fit=Fit(epochs=8, devices=1, accelerator="cpu"))
    result = compete(recipe, TAYLOR, 0)
    large, small = dense_macs(recipe), count_macs(trained(recipe, TAYLOR.name, 0))
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
    recipe = make()
    compete(recipe, MAGNITUDE, 0)
    result = compete(recipe, Contestant("scratch", twin_of=MAGNITUDE.name), 0)
    original, twin = (trained(recipe, name, 0) for name in (MAGNITUDE.name, "scratch"))
    shapes = [{n: p.shape for n, p in task.net.state_dict().items()} for task in (original, twin)]
    assert shapes[0] == shapes[1]
    macs = count_macs(twin)
    expected = round((result.budget - IMAGES * macs) / (IMAGES * macs))
    assert result.epochs == expected > 6
    assert abs(result.compute - result.budget) <= 0.5 * IMAGES * macs
    assert not same(weights(recipe, MAGNITUDE.name, 0), weights(recipe, "scratch", 0))


def test_a_result_is_a_function_of_contestant_and_seed(make) -> None:
    targeted = Contestant("targeted", TargetedDropout(), lambda seed: Magnitude())
    once, again = make("once"), make("again")
    torch.manual_seed(11)
    first = compete(once, targeted, 1)
    torch.manual_seed(12)
    compete(again, Contestant("dropout", HeadDropout()), 1)
    assert compete(again, targeted, 1) == first
    assert same(weights(once, "targeted", 1), weights(again, "targeted", 1))
    compete(again, Contestant("dense"), 1)
    compete(again, Contestant("dense"), 0)
    assert not same(weights(again, "dense", 1), weights(again, "dense", 0))
    assert not same(weights(again, "dense", 1), weights(again, "dropout", 1))


def test_phases_see_other_orders_and_draws_and_the_seed_of_the_data_stays(
    make, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, seen = make(), []
    original = equal_compute.fine_tune_

    def watch(task, data, fit, run, *, seed: int) -> None:
        seen.append((data.seed, seed))
        original(task, data, fit, run, seed=seed)

    monkeypatch.setattr(equal_compute, "fine_tune_", watch)
    compete(recipe, MAGNITUDE, 0)
    assert len(set(seen)) == len(seen) == 3
    assert len({order for order, _ in seen}) == len({draws for _, draws in seen}) == 3
    assert recipe.data.seed == 7
    # All contestants of a seed begin alike.
    compete(recipe, Contestant("dense"), 0)
    compete(recipe, Contestant("dense"), 1)
    assert seen[3] == seen[0] != seen[4]


def test_scores_are_those_of_the_kept_network(make) -> None:
    recipe = make()
    result = compete(recipe, Contestant("dropblock", DropBlock(0.2)), 0)
    task = load(recipe.run / "results" / "dropblock_0.ckpt")
    assert evaluate(task, unaugmented(recipe.data)).value == result.train
    assert evaluate(task, recipe.data.val_dataloader()).value == result.val
    assert task.provenance.scores == {"train/accuracy": result.train, "val/accuracy": result.val}
    assert task.provenance.data == recipe.data.snapshot.hash


def test_what_is_done_is_not_done_again(make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make()
    result = compete(recipe, TAYLOR, 0)
    file = result_file(recipe.run, TAYLOR.name, 0)
    kept = file.with_suffix(".ckpt").read_bytes()

    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("trained again")

    monkeypatch.setattr(equal_compute, "fine_tune_", fail)
    again = compete(recipe, TAYLOR, 0)
    assert again == result
    assert isinstance(again, Result)
    assert file.with_suffix(".ckpt").read_bytes() == kept
    # Half a result is none.
    content = json.loads(file.read_text())
    file.unlink()
    with pytest.raises(RuntimeError, match="trained again"):
        compete(recipe, TAYLOR, 0)
    file.write_text(json.dumps(content))
    file.with_suffix(".ckpt").unlink()
    with pytest.raises(RuntimeError, match="trained again"):
        compete(recipe, TAYLOR, 0)


def test_no_test_image_is_looked_at(make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make()

    def fail() -> None:
        raise RuntimeError("looked at test images")

    monkeypatch.setattr(recipe.data, "test_dataloader", fail)
    assert compete(recipe, MAGNITUDE, 0).cuts


def test_training_images_are_scored_as_they_are(make) -> None:
    recipe = make(images=41)
    examples = recipe.data.examples("train")
    examples.augment = []
    images = torch.cat([images for images, _ in unaugmented(recipe.data)])
    assert torch.equal(images, torch.stack([examples[0, index][0] for index in range(41)]))
    assert recipe.data.augment, "the data still augments"
