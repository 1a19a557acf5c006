"""A student is drawn to its teacher, and the teacher takes no part in anything else."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.distillation_losses import Shared
from regrow.models.nets.detector import Detector
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.training.distillation import Distillation, DistillationPenalty, last_maps

SIZE = (32, 32)
CLASSES = ["a", "b", "c"]
TASKS = [Classification, Segmentation, Detection]
RAW = Distillation()
BOTH = Distillation(features=1.0)


def make(kind: type[Task], seed: int = 0, classes: list[str] = CLASSES, **args: Any) -> Task:
    """Return a small net with statistics and scores as after training."""
    torch.manual_seed(seed)
    args = args or ({"channels": 8, "num_convs": 1} if kind is Detection else {"width": 4})
    task = kind(classes, SIZE, net_args=args).train()
    with torch.no_grad():
        for name in task.output_layers():
            nn.init.normal_(task.net.get_submodule(name).weight, std=0.3)
            task.net.get_submodule(name).bias.zero_()
        for _ in range(20):
            task(noise(8, seed=5))
    return task.eval()


def noise(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *SIZE), generator=generator, dtype=torch.uint8)


def term(penalty: DistillationPenalty, task: Task, images: Tensor) -> Tensor:
    with penalty.watching(task):
        return penalty(task, images, task(images))


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in net.modules())


# ---- what is drawn where


@pytest.mark.parametrize("kind", TASKS)
def test_nothing_draws_a_student_away_from_its_equal(kind: type[Task]) -> None:
    teacher = make(kind)
    student = copy.deepcopy(teacher)
    distance = term(DistillationPenalty(teacher, BOTH), student, noise(4))
    distance.backward()
    assert distance.item() == pytest.approx(0, abs=1e-6)
    grads = [p.grad for p in student.parameters() if p.grad is not None]
    assert len(grads) == len(list(student.net.parameters()))
    assert max(float(grad.abs().max()) for grad in grads) < 1e-5


@pytest.mark.parametrize("kind", TASKS)
def test_the_gradient_reaches_the_student_alone(kind: type[Task]) -> None:
    student, teacher = make(kind), make(kind, seed=1)
    penalty, modes = DistillationPenalty(teacher, RAW), []
    kept = penalty._kept.task
    kept.net.register_forward_hook(lambda *_: modes.append(torch.is_grad_enabled()))
    term(penalty, student.train(), noise(4)).backward()
    assert all(p.grad is not None and p.grad.any() for p in student.net.parameters())
    assert modes == [False]
    assert not any(p.requires_grad for p in kept.parameters())
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("kind", TASKS)
def test_a_batch_counts_as_the_mean_of_its_images(kind: type[Task]) -> None:
    student, penalty = make(kind), DistillationPenalty(make(kind, seed=1), BOTH)
    images = noise(4)
    with torch.no_grad():
        together = term(penalty, student, images)
        alone = torch.stack([term(penalty, student, image[None]) for image in images])
    assert alone.std() > 1e-4
    torch.testing.assert_close(together, alone.mean(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize(
    "distillation",
    [
        Distillation(10.0),
        Distillation(weight=0.0, features=10.0),
        Distillation(weight=0.0, channels=10.0),
    ],
)
def test_a_student_trained_with_it_comes_nearer_to_its_teacher(
    kind: type[Task], distillation: Distillation
) -> None:
    if distillation.channels and kind is Classification:
        pytest.skip("it has no places")
    teacher = make(kind, seed=1, **({} if kind is Detection else {"width": 8}))
    penalty = DistillationPenalty(teacher, distillation)
    distances = []
    for share in (0, 1):
        student = make(kind).train()
        optimizer = torch.optim.Adam(student.net.parameters(), lr=3e-3)
        for step in range(25):
            images = noise(8, seed=10 + step)
            with penalty.watching(student):
                outputs = student(images)
                losses = student.losses(outputs, targets(kind, len(images)))
                loss = sum(losses.values()) + share * penalty(student, images, outputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        # On images that neither was trained on.
        held_out = noise(32, seed=99)
        with torch.no_grad():
            if distillation.weight:
                distance = (shares(student.eval(), held_out) - shares(teacher, held_out)).abs()
            else:
                distance = term(penalty, student, held_out)
        distances.append(float(distance.mean()))
    without, with_it = distances
    assert with_it < without


def shares(task: Task, images: Tensor) -> Tensor:
    """Return what a user sees of each class."""
    outputs = task(images)
    if isinstance(task, Detection):
        return task.decode(outputs)["scores"]
    return outputs["logits"].softmax(1)


def targets(kind: type[Task], count: int) -> Any:
    """Return truths that have nothing to do with the images."""
    if kind is Classification:
        return torch.arange(count) % 3
    if kind is Segmentation:
        return torch.arange(count).view(-1, 1, 1).expand(-1, *SIZE) % 3
    one = {"boxes": torch.tensor([[4.0, 4, 20, 20]]), "labels": torch.tensor([1])}
    return [one] * count


def test_the_terms_are_weighted() -> None:
    student, teacher = make(Classification), make(Classification, seed=1)
    raw = term(DistillationPenalty(teacher, Distillation(1.0, 3.0)), student, noise(4))
    features = term(DistillationPenalty(teacher, Distillation(0.0, 3.0, 1.0)), student, noise(4))
    both = term(DistillationPenalty(teacher, Distillation(0.5, 3.0, 2.0)), student, noise(4))
    torch.testing.assert_close(both, 0.5 * raw + 2 * features)
    single = [Distillation(0.0, features=1.0, layers=[layer]) for layer in last_maps(teacher)]
    each = torch.stack(
        [term(DistillationPenalty(teacher, one), student, noise(4)) for one in single]
    )
    torch.testing.assert_close(features, each.mean())
    logits, wanted = (task(noise(4))["logits"] / 3 for task in (student, teacher))
    oracle = nn.KLDivLoss(reduction="batchmean")(logits.log_softmax(1), wanted.softmax(1))
    torch.testing.assert_close(raw, 9 * oracle)


def test_the_channel_wise_term_is_that_of_the_maps_of_classes() -> None:
    student, teacher = make(Segmentation), make(Segmentation, seed=1, classes=["c", "a", "x"])
    distillation = Distillation(0.0, temperature=2.0, channels=3.0)
    found = term(DistillationPenalty(teacher, distillation), student, noise(4))
    own, theirs = (task(noise(4))["logits"].flatten(2) / 2 for task in (student, teacher))
    # Of the student's classes a and c; the teacher has them in other places.
    pairs = zip((0, 2), (1, 0), strict=True)
    oracle = nn.KLDivLoss(reduction="batchmean")
    apart = [oracle(own[:, i].log_softmax(1), theirs[:, j].softmax(1)) for i, j in pairs]
    torch.testing.assert_close(found, 3 * 4 * torch.stack(apart).mean())


def test_boxes_are_compared_by_where_each_class_scores() -> None:
    student, teacher = make(Detection), make(Detection, seed=1)
    penalty = DistillationPenalty(teacher, Distillation(0.0, temperature=1.0, channels=1.0))
    own, theirs = (task.decode(task(noise(2)))["scores"] for task in (student, teacher))
    # Odds over places: exp(logit p) = p / (1 - p).
    (own, theirs) = (
        odds / odds.sum(2, keepdim=True) for odds in (own / (1 - own), theirs / (1 - theirs))
    )
    expected = (theirs * (theirs / own).log()).sum(2).mean()
    torch.testing.assert_close(term(penalty, student, noise(2)), expected, rtol=1e-4, atol=1e-6)


def test_tasks_without_places_refuse_the_channel_wise_term() -> None:
    with pytest.raises(BadInput, match=r"distillation\.channels: Classification has no method"):
        DistillationPenalty(make(Classification), Distillation(channels=1.0))


# ---- classes


@pytest.mark.parametrize("kind", TASKS)
def test_a_grown_student_is_compared_by_the_names_of_its_classes(kind: type[Task]) -> None:
    teacher, student = make(kind), make(kind, seed=1, classes=["c", "new", "a", "b"])
    state = {**teacher.net.state_dict()}
    for rows in student.class_rows():
        for name in (f"{rows.layer}.weight", f"{rows.layer}.bias"):
            grown = student.net.state_dict()[name].clone()
            for place, label in enumerate(student.classes):
                if label != "new":
                    old = rows.indices(CLASSES.index(label), 3)
                    grown[rows.indices(place, 4)] = state[name][old]
            state[name] = grown
    student.net.load_state_dict(state)
    penalty = DistillationPenalty(teacher, BOTH)
    assert term(penalty, student, noise(4)).item() == pytest.approx(0, abs=1e-6)
    student.classes = ["a", "new", "b", "c"]
    assert term(penalty, student, noise(4)).item() > 1e-3


# ---- the teacher


@pytest.mark.parametrize("kind", TASKS)
def test_the_teacher_stays_as_it_was_and_stands_still(kind: type[Task]) -> None:
    teacher, student = make(kind, seed=1).train(), make(kind)
    penalty = DistillationPenalty(teacher, BOTH)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    wanted = term(penalty, student, noise(4))
    student.penalties.append(penalty)
    student.train()
    for seed in range(3):
        term(penalty, student, noise(4, seed))
    assert torch.equal(term(penalty, make(kind), noise(4)), wanted)
    assert all(module.training for module in teacher.modules())
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(teacher.state_dict()[n], value) for n, value in before.items())
    # What becomes of the original does not matter either.
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.zero_()
    assert torch.equal(term(penalty, make(kind), noise(4)), wanted)


def test_a_teacher_draws_no_random_numbers() -> None:
    student, teacher = make(Classification), make(Classification, seed=1)
    teacher.net.one = nn.Sequential(teacher.net.one, nn.Dropout(0.5))
    state = torch.get_rng_state()
    term(DistillationPenalty(teacher.train(), BOTH), student, noise(4))
    assert torch.equal(torch.get_rng_state(), state)


def test_copies_of_the_student_share_the_teacher_which_is_no_part_of_it() -> None:
    student = make(Classification)
    names, size = list(student.state_dict()), len(list(student.modules()))
    student.penalties.append(DistillationPenalty(make(Classification, seed=1), BOTH))
    assert list(student.state_dict()) == names
    assert len(list(student.modules())) == size + 1
    assert "penalties" not in student.arguments()
    (own,), (other,) = student.penalties, copy.deepcopy(student).penalties
    assert other is not own
    assert other._kept.task is own._kept.task


def test_the_teacher_runs_in_the_students_precision() -> None:
    teacher = make(Classification)
    with torch.autocast("cpu", torch.bfloat16):
        same = term(DistillationPenalty(teacher, RAW), teacher, noise(4))
        wanted = teacher(noise(4))["logits"]
    assert wanted.dtype == torch.bfloat16
    assert same.item() == 0
    assert term(DistillationPenalty(teacher, RAW), teacher, noise(4)).item() == 0


def test_the_teacher_follows_to_the_students_device() -> None:
    penalty = DistillationPenalty(make(Classification, seed=1), BOTH)
    student = make(Classification).to("meta")
    assert term(penalty, student, noise(4).to("meta")).device.type == "meta"
    moved = [p.data_ptr() for p in penalty._kept.task.parameters()]
    term(penalty, student, noise(4).to("meta"))
    assert [p.data_ptr() for p in penalty._kept.task.parameters()] == moved


# ---- features


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        (Classification, ["one", "two", "three"]),
        (Segmentation, ["up_stem", "up_one", "two"]),
        (Detection, ["backbone.stem", "backbone.one", "tower"]),
    ],
)
def test_features_are_compared_where_each_resolution_ends(
    kind: type[Task], layers: list[str]
) -> None:
    assert last_maps(make(kind)) == layers


def test_maps_of_regions_are_not_those_of_images() -> None:
    task = make(Classification)
    regions = [nn.Flatten(0, 1), nn.Unflatten(0, (-1, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    task.net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), *regions, nn.Linear(1, 3))
    task.output_layers = lambda: ["5"]  # type: ignore[method-assign]
    assert last_maps(task) == ["0"]


def test_a_layer_that_runs_for_each_level_counts_once_for_each() -> None:
    args = {"net": "fcos", "net_args": {"backbone": "timm/mobilenetv3_small_050", "channels": 8}}
    torch.manual_seed(0)
    task = Detection(CLASSES, (64, 64), **args).eval()
    teacher = copy.deepcopy(task)
    with torch.no_grad():
        teacher.net.tower[0][0].weight.normal_()
        images = task.example_images(2)
        found = term(
            DistillationPenalty(teacher, Distillation(0.0, features=1.0, layers=["tower"])),
            task,
            images,
        )
        maps: list[list[Tensor]] = [[], []]
        for net, seen in zip((task, teacher), maps, strict=True):
            net.net.tower.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out))
            net(images)
    assert len(maps[0]) == 3
    terms = []
    for own, theirs in zip(*maps, strict=True):
        cosine = nn.functional.cosine_similarity(
            own.square().sum(1).flatten(1), theirs.square().sum(1).flatten(1)
        )
        terms.append((2 - 2 * cosine).mean())
    torch.testing.assert_close(found, torch.stack(terms).mean(), rtol=1e-3, atol=1e-6)


def test_hooks_are_gone_after_a_step_also_after_a_failed_one() -> None:
    student = make(Classification)
    penalty = DistillationPenalty(make(Classification, seed=1), BOTH)
    with penalty.watching(student):
        assert hooks(student.net) == 3
        penalty(student, noise(2), student(noise(2)))
        assert hooks(penalty._kept.task.net) == 0
    penalty._kept.task.classes = ["x", "y", "z"]
    with pytest.raises(BadInput, match="they must share 2"):
        term(penalty, student, noise(2))
    assert hooks(student.net) == 0
    # Nothing of the step is kept: its maps could not be copied.
    copy.deepcopy(penalty)
    # A layer that is gone leaves none behind on those before it.
    del student.net.three
    with pytest.raises(BadInput, match="no layer 'three'"), penalty.watching(student):
        pass
    assert hooks(student.net) == 0


def test_layers_that_do_not_compare_are_named() -> None:
    student, teacher = make(Classification), make(Classification, seed=1)

    def run(*layers: str, task: Task = student) -> None:
        term(
            DistillationPenalty(teacher, Distillation(features=1.0, layers=list(layers))),
            task,
            noise(2),
        )

    with pytest.raises(BadInput, match="the net has no layer 'four'"):
        run("one", "four")
    with pytest.raises(BadInput, match="'head' does not give the same number and size of maps"):
        run("head")
    other = copy.deepcopy(student)
    other.net.stem[0].stride = (1, 1)
    with pytest.raises(BadInput, match="'two' does not give the same number and size of maps"):
        run("two", task=other)
    twice = copy.deepcopy(student)
    twice.net.stem.append(twice.net.one)
    with pytest.raises(BadInput, match="'one' does not give the same number and size of maps"):
        run("one", task=twice)
    idle = copy.deepcopy(student)
    idle.net.extra = nn.Identity()
    teacher.net.extra = nn.Identity()
    with pytest.raises(BadInput, match="'extra' did not run while the step was watched"):
        run("extra", task=idle)


def test_a_net_without_maps_needs_layers_to_be_named() -> None:
    task = make(Classification)
    task.net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    task.output_layers = lambda: ["2"]  # type: ignore[method-assign]
    with pytest.raises(BadInput, match=r"no layer of the net gives maps \(b, d, h, w\)"):
        DistillationPenalty(task, BOTH)


def test_a_compiled_student_has_no_features() -> None:
    student = make(Classification)
    student.compile_net = True
    penalty = DistillationPenalty(make(Classification), BOTH)
    with pytest.raises(BadInput, match="needs a network that is not compiled"):
        term(penalty, student, noise(2))


# ---- what cannot be


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
@pytest.mark.parametrize("name", ["weight", "features", "temperature", "channels"])
def test_values_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(BadInput, match=rf"distillation\.{name} is {value}, it must be"):
        Distillation(**{name: value})


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(BadInput, match=r"temperature is 0, it must be > 0"):
        Distillation(temperature=0)


def test_pairs_that_do_not_compare_are_refused() -> None:
    student = make(Classification)
    penalty = DistillationPenalty(make(Segmentation))
    with pytest.raises(BadInput, match="the network's kind is labels, its teacher's masks"):
        term(penalty, student, noise(2))
    penalty = DistillationPenalty(Classification(CLASSES, (16, 16), net_args={"width": 4}))
    with pytest.raises(BadInput, match=r"size is \(32, 32\), its teacher's \(16, 16\)"):
        term(penalty, student, noise(2))
    penalty = DistillationPenalty(make(Classification, classes=["c", "d", "e"]))
    with pytest.raises(BadInput, match="knows a, b, c, its teacher c, d, e; they must share 2"):
        term(penalty, student, noise(2))
    penalty = DistillationPenalty(make(Classification))
    with pytest.raises(BadInput, match="the network gives scores, its teacher logits"):
        penalty(student, noise(2), {"scores": torch.zeros(2, 3)})


def test_a_task_that_does_not_say_how_cannot_be_imitated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Classification, "distillation_loss")
    task = make(Classification)
    with pytest.raises(
        BadInput, match="Classification has no method `distillation_loss`; write one"
    ):
        term(DistillationPenalty(task), task, noise(2))


# ---- anyone's detector


class OwnDetector(Detector):
    """Gives raw outputs of its own kind, which only it can decode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3 + 4, 8, 8)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"cells": self.layer(images).flatten(2)}

    def decode(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        corners = raw["cells"][:, 3:].transpose(1, 2)
        boxes = torch.cat([8 - corners[..., :2].exp(), 8 + corners[..., 2:].exp()], -1)
        return {"boxes": boxes, "scores": raw["cells"][:, :3].sigmoid()}

    def losses(self, raw: dict[str, Tensor], targets: Any) -> dict[str, Tensor]:
        raise NotImplementedError

    def class_rows(self) -> list:
        return []

    def output_layers(self) -> list[str]:
        return ["layer"]


def test_any_detector_is_imitated_by_its_boxes_and_scores() -> None:
    torch.manual_seed(0)
    own, teacher = OwnDetector(), OwnDetector()
    images = noise(2) / 255
    raw, wanted = own(images), teacher(images)
    with torch.no_grad():
        wanted["cells"][0, 3:, 0] = -5  # a box smaller than a pixel
    distance = own.distillation_loss(raw, wanted, Shared())
    decoded, right = own.decode(raw), own.decode(wanted)
    total = torch.zeros(2)
    for image in range(2):
        best = right["scores"][image].amax(0).square()
        for place in range(16):
            left, top, far, bottom = right["boxes"][image, place]
            sides = torch.stack([far - left, bottom - top] * 2).clamp(min=1)
            moved = (decoded["boxes"][image, place] - right["boxes"][image, place]).abs() / sides
            cost = torch.where(moved < 1, moved.square() / 2, moved - 0.5).mean()
            p, q = decoded["scores"][image, :, place], right["scores"][image, :, place]
            entropy = -(q * p.log() + (1 - q) * (1 - p).log())
            total[image] += (best[place] * cost + ((p - q).square() * entropy).sum()) / best.sum()
    torch.testing.assert_close(distance, total.mean())
    turned = {"cells": wanted["cells"].detach()[:, [1, 2, 0, 3, 4, 5, 6]]}
    raw = {"cells": wanted["cells"].detach()}
    assert own.distillation_loss(raw, turned, Shared()).item() > 1e-4
    matched = own.distillation_loss(raw, turned, Shared(own=[1, 0], theirs=[0, 2]))
    assert matched.item() == pytest.approx(0, abs=1e-9)
