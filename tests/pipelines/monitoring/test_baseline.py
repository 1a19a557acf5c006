"""The baseline of each task is what the server answers, on pictures that the model has not seen."""

import base64
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from watched_models import CLASSES, SIZE, TASKS, picture, watched_data

from given import Given
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Boxes, Item, Mask, Target
from regrow.deploy.serving.opener import Opener
from regrow.errors import BadInput
from regrow.models.onnx.graph import export_graph
from regrow.models.segmentation import Segmentation
from regrow.monitor.bias.constraints import BiasConstraints
from regrow.pipelines.monitoring.baseline import predictor, run_baseline
from regrow.pipelines.serve import promoted_model


@pytest.mark.parametrize("kind", TASKS)
def test_the_truths_of_the_model_itself_have_no_loss(
    models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """Labels that are the model's own answers: what is compared is in the same coordinates."""
    served, _ = Opener(promoted_model).open(models[kind])
    predict, items = predictor(served), list[Item]()
    for number in range(24):
        found = predict(picture(number))
        target: Target
        if kind == "labels":
            target = found["label"]
        elif kind == "boxes":
            sure = [one for one in found["objects"] if one["score"] >= 0.3]
            boxes = np.array([one["box"] for one in sure], np.float32).reshape(-1, 4)
            target = Boxes(boxes, tuple(one["label"] for one in sure))
        else:
            mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["mask"]))))
            target = Mask(mask, dict(enumerate(CLASSES)))
        items += [Item(f"{s}{number}", picture(number + o), target, s) for s, o in _PARTS]
    data = GrowingData(Given(items, CLASSES), size=SIZE, test_share=0, val_share=0)
    baseline = run_baseline(models[kind], tmp_path / "monitor", data)
    assert baseline.promise is not None
    assert baseline.promise.risk == pytest.approx(0, abs=1e-6)


_PARTS = (("train", 1000), ("val", 2000), ("test", 0))


def test_without_test_images_the_validation_split_is_taken_and_said(
    models: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        baseline = run_baseline(
            models["labels"], tmp_path / "monitor", watched_data("labels", "val")
        )
    assert baseline.split == "val"
    assert "the reference is the validation split, which chose the best epoch" in caplog.text


def test_a_large_reference_is_cut_by_names_and_not_by_order(
    models: dict[str, Path], tmp_path: Path
) -> None:
    found = run_baseline(models["labels"], tmp_path / "m", watched_data("labels"), max_images=20)
    assert found.num_groups == 20
    again = run_baseline(models["labels"], tmp_path / "m", watched_data("labels"), max_images=20)
    assert again.summary.to_dict() == found.summary.to_dict()
    assert (tmp_path / "m-1" / "baseline.json").is_file()  # the earlier one is moved aside


@pytest.mark.parametrize(("given", "label"), [(None, "b"), ("c", "c")])
def test_bias_sets_the_rarest_class_against_the_rest_or_that_asked_for(
    models: dict[str, Path], tmp_path: Path, given: str | None, label: str
) -> None:
    """Of 25 pictures 9 show a, 8 b and 8 c."""
    run_baseline(models["labels"], tmp_path / "m", watched_data("labels", count=25), label=given)
    found = BiasConstraints.read(tmp_path / "m", ("a", "b", "c"))
    assert found.label == label
    assert {*found.edges} == {"brightness"}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"label": "z"}, "label is 'z', it must be a class: a, b, c"),
        ({"tolerance": 2.0}, "tolerance is 2.0, it must lie in"),
        ({"max_images": 0}, "max_images is 0"),
        ({"attributions": -1}, "attributions is -1, it must be at least 0"),
        ({"split": "val"}, "3 independent pictures, no change could show"),
        ({"data": None}, "so name the data with --config or --data"),
        ({"model": Path("nowhere")}, "nowhere: no such file or folder"),
    ],
)
def test_bad_input_is_one_line(
    models: dict[str, Path], tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    given = {
        "model": models["labels"],
        "out": tmp_path / "m",
        "data": watched_data("labels"),
    } | options
    if options.get("data", 0) is None:
        (tmp_path / "alone").mkdir()
        given["model"] = Path(tmp_path / "alone" / "model.onnx")
        given["model"].write_bytes(models["labels"].read_bytes())
    with pytest.raises(BadInput, match=match):
        run_baseline(**given)


def test_another_kind_of_data_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="predicts labels, the data has masks"):
        run_baseline(models["labels"], tmp_path / "m", watched_data("masks"))


def test_a_model_with_a_class_of_the_number_of_unknown_pixels_is_refused(tmp_path: Path) -> None:
    names = [*CLASSES, *(f"class {number}" for number in range(253))]
    file = export_graph(Segmentation(names, SIZE, net="small").eval(), tmp_path / "model.onnx")
    with pytest.raises(BadInput, match="has 256 classes; masks have at most 255, as number 255 is"):
        run_baseline(file, tmp_path / "m", watched_data("masks"))
