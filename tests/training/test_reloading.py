"""A checkpoint of a run gives its task the weights, widths, masks and scores that it holds."""

from pathlib import Path

import pytest
import torch

from regrow.errors import BadInput
from regrow.models.checkpoint import read, save
from regrow.models.classification import Classification
from regrow.models.masks import mask_weights_, masks_of
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import cut_
from regrow.training.reloading import is_of, load_weights_


def make_task(width: int = 4, seed: int = 0) -> Classification:
    torch.manual_seed(seed)
    return Classification(["a", "b"], (16, 16), net_args={"width": width}).eval()


def halved() -> Classification:
    """Return a network with half of its channels cut."""
    task = make_task()
    groups = find_groups(task).groups
    cut_(task, [(group, list(range(group.num_units // 2))) for group in groups])
    return task


def test_a_network_of_other_widths_is_put_into_a_task(tmp_path: Path) -> None:
    narrow, task = halved(), make_task()
    save(tmp_path / "best.ckpt", narrow)
    load_weights_(task, tmp_path / "best.ckpt")
    images = narrow.example_images(3)
    with torch.no_grad():
        assert torch.equal(task(images)["logits"], narrow(images)["logits"])


def test_masks_and_scores_are_those_of_the_file(tmp_path: Path) -> None:
    old, task = make_task(seed=1), make_task()
    kept = torch.rand(old.net.head.weight.shape) < 0.5
    mask_weights_(old.net, {"head.weight": kept})
    old.provenance.scores = {"val/accuracy": 0.75}
    save(tmp_path / "best.ckpt", old)
    mask_weights_(task.net, {"stem.0.weight": torch.rand(task.net.stem[0].weight.shape) < 0.5})
    load_weights_(task, tmp_path / "best.ckpt")
    masks = masks_of(task.net)
    assert masks.keys() == {"head.weight"}
    assert torch.equal(masks["head.weight"].bool(), kept)
    assert not task.net.head.weight[~kept].any()
    assert torch.equal(task.net.stem[0].weight, old.net.stem[0].weight)
    assert task.provenance.scores == {"val/accuracy": 0.75}


def test_a_network_takes_the_precision_of_the_file_and_keeps_its_mode(tmp_path: Path) -> None:
    save(tmp_path / "best.ckpt", halved().to(torch.bfloat16))
    task = make_task().train()
    load_weights_(task, tmp_path / "best.ckpt")
    assert {p.dtype for p in task.net.parameters()} == {torch.bfloat16}
    assert task.net.training


def test_a_file_of_another_network_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    task, file = make_task(), tmp_path / "best.ckpt"
    before = {name: value.clone() for name, value in task.state_dict().items()}
    save(file, make_task(width=6))
    with pytest.raises(BadInput) as told:
        load_weights_(task, file)
    assert str(told.value) == (
        f"{file}: of another network than that of the run; put the run's own back"
    )
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())


def test_whether_weights_are_of_a_task_is_a_matter_of_shapes_as_recorded(tmp_path: Path) -> None:
    task, file = make_task(), tmp_path / "a.ckpt"
    for other, is_its_own in ((make_task(seed=1), True), (halved(), True), (make_task(6), False)):
        save(file, other)
        payload = read(file)
        drawn = torch.random.get_rng_state()
        assert is_of(task, payload) is is_its_own
        assert torch.equal(torch.random.get_rng_state(), drawn)
    save(file, halved())
    payload = read(file)
    payload["regrow"]["structure"] = None  # widths that no record explains
    assert not is_of(task, payload)
