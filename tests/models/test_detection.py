"""The task: what trains, what an exported graph ends with, and what a user sees."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.detection import Detection

SIZE = (64, 64)
CLASSES = ["red", "green", "blue"]


def scenes() -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Compose four grey images, with a rectangle or two in a class's colour each."""
    layouts = [
        [(8, 8, 30, 28, 0), (36, 30, 58, 60, 1)],
        [(10, 34, 34, 56, 2)],
        [(30, 4, 60, 24, 1), (4, 30, 24, 62, 0)],
        [(20, 20, 44, 40, 2)],
    ]
    images = torch.full((4, 3, *SIZE), 90, dtype=torch.uint8)
    targets = []
    for image, layout in zip(images, layouts, strict=True):
        for left, top, right, bottom, label in layout:
            image[label, top:bottom, left:right] = 255
        rows = torch.tensor(layout)
        targets.append({"boxes": rows[:, :4].float(), "labels": rows[:, 4]})
    return images, targets


def fcos(**kwargs: Any) -> Detection:
    torch.manual_seed(0)
    args = {"channels": 32, "num_convs": 1}
    return Detection(CLASSES, SIZE, net="fcos", net_args=args, **kwargs)


@pytest.fixture(scope="module")
def trained() -> Detection:
    task = fcos().train()
    images, targets = scenes()
    optimizer = torch.optim.AdamW(task.parameters(), lr=5e-3)
    for _ in range(80):
        losses = task.losses(task(images), targets)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    return task.eval()


def test_four_scenes_are_learnt_by_heart(trained: Detection) -> None:
    images, targets = scenes()
    metric = trained.make_metric()
    with torch.no_grad():
        metric.update(trained.predict(trained(images)), targets)
    values = metric.compute()
    assert values[trained.score] > 0.9
    assert len(values["per_class"]) == len(CLASSES)


def test_evidence_scores_what_the_metric_scores(trained: Detection) -> None:
    images, targets = scenes()
    evidence, metric = trained.make_evidence(), trained.make_metric()
    with torch.no_grad():
        found = trained.predict(trained(images))
    # Half of what was found, so that neither is 1.
    found = [{name: value[:1] for name, value in one.items()} for one in found]
    evidence.update(found, targets)
    metric.update(found, targets)
    assert evidence.num_images == 4
    assert evidence.score() == pytest.approx(float(metric.compute()["map50"]), abs=1e-3)


def test_predictions_are_those_from_decoded_outputs(trained: Detection) -> None:
    with torch.no_grad():
        outputs = trained(scenes()[0])
    expected = trained.predict(outputs)
    found = trained.from_decoded(trained.decode(outputs))
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("boxes", "scores", "labels"))


def test_knobs_limit_the_detections(trained: Detection) -> None:
    images, _ = scenes()
    with torch.no_grad():
        decoded = trained.decode(trained(images))
    for task, most in ((fcos(score_threshold=0.0, max_detections=3), 3), (fcos(), 100)):
        assert max(len(one["boxes"]) for one in task.from_decoded(decoded)) <= most
    best = fcos(score_threshold=0.999).from_decoded(decoded)
    assert sum(len(one["boxes"]) for one in best) == 0


def test_half_precision_outputs_give_full_precision_losses(trained: Detection) -> None:
    images, targets = scenes()
    outputs = {name: value.bfloat16() for name, value in trained(images).items()}
    losses = trained.losses(outputs, targets)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert {one["scores"].dtype for one in trained.predict(outputs)} == {torch.float32}


def test_class_rows_and_output_layers_name_layers_of_the_net(trained: Detection) -> None:
    names = dict(trained.net.named_modules())
    assert set(trained.output_layers()) <= set(names)
    for rows in trained.class_rows():
        assert rows.num_rows(len(CLASSES)) == names[rows.layer].weight.shape[0]


def test_a_network_without_the_methods_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detection, "fresh_net", lambda self, weights=None: nn.Identity())
    with pytest.raises(BadInput, match="'own' gives a Identity; a detection network has"):
        Detection(CLASSES, SIZE, net="own")


def test_two_stages_cannot_be_exported_and_say_so() -> None:
    task = Detection(CLASSES, SIZE, net="torchvision/fasterrcnn_mobilenet_v3_large_320_fpn").eval()
    outputs = task(scenes()[0])
    assert len(task.predict(outputs)) == 4
    with pytest.raises(BadInput, match="cannot be exported.*SSDLite, RetinaNet or FCOS"):
        task.decode(outputs)


class Exported(nn.Module):
    def __init__(self, task: Detection) -> None:
        super().__init__()
        self.task = task

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.task.decode(self.task(images))


@pytest.mark.parametrize(
    "net",
    [
        "fcos",
        pytest.param("torchvision/ssdlite320_mobilenet_v3_large", marks=pytest.mark.slow),
        pytest.param("torchvision/retinanet_resnet50_fpn", marks=pytest.mark.slow),
        pytest.param("torchvision/fcos_resnet50_fpn", marks=pytest.mark.slow),
    ],
)
def test_an_exported_graph_agrees_for_any_batch(net: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = Detection(CLASSES, SIZE, net=net).train()
    with torch.no_grad():  # statistics as after training
        for _ in range(3):
            task(task.example_images(4))
    wrapped = Exported(task.eval()).eval()
    file = tmp_path / "model.onnx"
    torch.onnx.export(
        wrapped,
        (task.example_images(2),),
        file,
        dynamo=True,
        input_names=["images"],
        output_names=["boxes", "scores"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        verbose=False,
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = task.example_images(batch)
        with torch.no_grad():
            expected = wrapped(images)
        found = session.run(["boxes", "scores"], {"images": images.numpy()})
        np.testing.assert_allclose(found[0], expected["boxes"].numpy(), atol=1e-2)
        np.testing.assert_allclose(found[1], expected["scores"].numpy(), atol=1e-4)
