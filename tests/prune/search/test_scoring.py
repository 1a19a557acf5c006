import copy

import pytest
import torch
from torch.nn import functional

from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.distillation_losses import Shared
from regrow.models.segmentation import Segmentation
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.recovery import reestimate_batchnorm_
from regrow.prune.search.scoring import Scorer


def batches(count: int, size: int = 16, images: int = 4):
    generator = torch.Generator().manual_seed(7)
    shape = (images, 3, size, size)
    for _ in range(count):
        yield torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), None


def classifier() -> Classification:
    torch.manual_seed(0)
    return Classification(["a", "b", "c"], (16, 16), net_args={"width": 8})


def test_a_network_is_at_no_distance_from_itself():
    task = classifier().eval()
    scorer = Scorer(task, task, batches(4), 8, 2)
    assert scorer.distance(task) == 0
    assert [len(images) for images in scorer.images] == [4, 4]


def test_a_candidate_scores_the_divergence_after_its_norms_are_measured_anew():
    task = classifier()
    plan = [(group, [0, 3]) for group in find_groups(task).groups]
    given = [images for images, _ in batches(5)]
    scored = Scorer(task, task, batches(5), 10, 2)(plan)
    cut = clone(task)
    cut_(cut, plan)
    # The first ten images are for the score, the fourth and fifth batch for the norms.
    reestimate_batchnorm_(cut, [(images, None) for images in given[3:]], 2)
    images = torch.cat(given)[:10]
    with torch.no_grad():
        ours, theirs = (net.eval()(images)["logits"].log_softmax(1) for net in (cut, task))
    wanted = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    assert scored.distance == pytest.approx(float(wanted), rel=1e-4)
    assert scored.distance > 0
    assert scored.costs["params"] == sum(p.numel() for p in cut.net.parameters())
    assert find_groups(task).groups[0].num_units == plan[0][0].num_units


def test_the_network_stays_as_it_is():
    task = classifier()
    before = copy.deepcopy(task.net.state_dict())
    plan = [(group, [0]) for group in find_groups(task).groups]
    Scorer(task, task, batches(3), 8, 2)(plan)
    assert all(torch.equal(value, before[name]) for name, value in task.net.state_dict().items())


@pytest.mark.parametrize("kind", [Detection, Segmentation])
def test_detectors_and_segmenters_are_scored_by_their_raw_outputs(kind):
    torch.manual_seed(0)
    task = kind(["a", "b"], (64, 64))
    groups = find_groups(task).groups
    scorer = Scorer(task, task, batches(2, 64), 4, 1)
    assert scorer.distance(task) == pytest.approx(0, abs=1e-6)
    plan = [(group, list(range(group.num_units // 2))) for group in groups]
    cut = clone(task)
    cut_(cut, plan)
    first, second = [images for images, _ in batches(2, 64)]
    reestimate_batchnorm_(cut, [(second, None)], 1)
    with torch.no_grad():
        ours, theirs = (net.eval()(first) for net in (cut, task))
        wanted = float(task.distillation_loss(ours, theirs, Shared(), 1.0))
    assert wanted > 0
    assert scorer(plan).distance == pytest.approx(wanted, rel=1e-4)


def test_a_task_without_a_distillation_loss_is_scored_by_squared_errors(make_task):
    task = make_task("plain")
    other = make_task("plain")
    with torch.no_grad():
        other.net.fc.bias += 1.0
    scorer = Scorer(other, task, batches(2), 8, 1)
    task.net.eval()
    variances = torch.stack([task(images)["logits"].detach().var() for images, _ in batches(2)])
    assert scorer.distance(other) == pytest.approx(float((1 / variances).mean()), rel=1e-4)


def test_a_plan_that_cannot_be_cut_scores_worst(make_task):
    task = make_task("plain")
    groups = find_groups(task).groups
    everything = [(groups[0], list(range(groups[0].num_units)))]
    scored = Scorer(task, task, batches(2), 4, 1)(everything)
    assert (scored.distance, scored.costs) == (float("inf"), {})


def test_few_images_are_used_twice_and_none_are_refused(make_task):
    task = make_task("plain")
    scorer = Scorer(task, task, batches(1), 4, 3)
    assert len(scorer.norm_batches) == 1
    with pytest.raises(BadInput, match="no training images"):
        Scorer(task, task, [], 4, 1)
