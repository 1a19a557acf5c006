"""Contestants: who competes, in what order, and the account of what each spent."""

import pytest

from regrow.errors import BadInput
from regrow.pipelines.experiments.contestants import ComputeTrial, Phase, enter
from regrow.prune.criteria import Magnitude, Random, Taylor
from regrow.prune.dropout import DropBlock, HeadDropout, TargetedDropout


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


def trial(*phases: Phase, budget: int = 1000) -> ComputeTrial:
    return ComputeTrial("it", 3, 0.75, 0.5, budget, phases, (0.25,))


def test_compute_is_images_times_macs_and_epochs_are_counted() -> None:
    one = trial(Phase("training", 2, 20, 30), Phase("measuring", 0, 5, 20))
    assert one.compute == 20 * 30 + 5 * 20
    assert one.share_spent == 0.7
    assert one.epochs == 2
    assert str(one) == ("it, seed 3: training 0.7500, validation 0.5000, 70.0 % of the compute")


@pytest.mark.parametrize(
    ("recovered", "is_untrained"), [([], False), ([1, 2], False), ([1, 0], True), ([0, 1], False)]
)
def test_a_network_ends_untrained_if_its_last_recovery_had_no_epoch(
    recovered: list[int], is_untrained: bool
) -> None:
    phases = [Phase("recovery", epochs, 10 * epochs, 5) for epochs in recovered]
    one = trial(Phase("training", 1, 10, 10), *phases, Phase("measuring", 0, 1, 5))
    assert one.ends_untrained == is_untrained


def test_a_trial_is_read_from_what_a_json_holds() -> None:
    one = trial(Phase("training", 2, 20, 30))
    values = {
        "candidate": "it",
        "seed": 3,
        "train": 0.75,
        "val": 0.5,
        "budget": 1000,
        "phases": [{"name": "training", "epochs": 2, "images": 20, "macs": 30}],
        "cuts": [0.25],
    }
    assert ComputeTrial.of(values) == one
