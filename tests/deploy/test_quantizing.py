"""Models in INT8 are scored as they answer, and keep their ends in float where that saves them."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch import Tensor
from watched_models import TASKS, untrained_task, watched_data

from regrow.data.module import GrowingData
from regrow.deploy import quantizing
from regrow.deploy.parity import check_parity
from regrow.deploy.quantizing import Quantized, evaluate_graph, quantize
from regrow.deploy.session import Session
from regrow.metrics.budget import Budget
from regrow.models.classification import Classification
from regrow.models.onnx.graph import export_graph
from regrow.training.evaluation import Evaluation, evaluate

Loader = list[tuple[Tensor, Tensor]]


def ordered(data: GrowingData) -> GrowingData:
    data.order_classes(data.classes)
    return data


@pytest.mark.parametrize("kind", list(TASKS))
def test_a_graph_is_scored_as_its_network_and_int8_near_it(kind: str, tmp_path: Path) -> None:
    task, data = untrained_task(kind), ordered(watched_data(kind))
    path = export_graph(task, tmp_path / "float.onnx")
    wanted = evaluate(task, data.test_dataloader())
    found = evaluate_graph(task, path, data.test_dataloader())
    assert (found.name, found.num_images) == (wanted.name, wanted.num_images) == (task.score, 24)
    assert found.value == pytest.approx(wanted.value, abs=1e-3)
    assert found.evidence.score() == pytest.approx(found.value, abs=1e-6)
    images = [image.numpy() for image, _ in data.test_dataloader()]
    small = tmp_path / "int8.onnx"
    choice = quantize(task, path, small, images, data.val_dataloader(), Budget(max_drop=1))
    assert not choice.keeps_ends
    assert choice.scores.keys() == {"float", "all"}
    assert Session(small).precision == "int8"
    assert Session(path).precision == "float32"
    assert evaluate_graph(task, small, data.test_dataloader()).value == pytest.approx(
        wanted.value, abs=0.1
    )


def test_of_int8_the_scores_decide_alone(
    task: Classification, path: Path, loader: Loader, tmp_path: Path
) -> None:
    small = tmp_path / "int8.onnx"
    quantize(task, path, small, [i.numpy() for i, _ in loader], loader, Budget(max_drop=1))
    found = check_parity(task, small, loader, max_score_change=1)
    assert found.max_abs_diff > 1e-4
    assert found.is_equal
    # The same outputs under the name of a float model do not pass.
    model = onnx.load(small)
    entries = {e.key: e.value for e in model.metadata_props if e.key != "regrow.precision"}
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, small)
    assert not check_parity(task, small, loader, max_score_change=1).is_equal


def scored(monkeypatch: pytest.MonkeyPatch, values: Iterable[float]) -> Iterator[float]:
    """Let scores in ONNX Runtime be these in turn; return those that are left."""
    scores, original = iter(values), quantizing.evaluate_graph

    def told(*args: Any) -> Evaluation:
        return replace(original(*args), value=next(scores))

    monkeypatch.setattr(quantizing, "evaluate_graph", told)
    return scores


@pytest.mark.parametrize(
    ("values", "keeps_ends"),
    [
        ((0.9, 0.896), False),  # less than half of what is accepted
        ((0.9, 0.894, 0.896), True),
        ((0.9, 0.894, 0.893), False),  # it would not save the score
    ],
)
def test_ends_stay_in_float_where_that_saves_the_score(
    task: Classification,
    path: Path,
    loader: Loader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: tuple[float, ...],
    keeps_ends: bool,
) -> None:
    scores = scored(monkeypatch, values)
    images = [i.numpy() for i, _ in loader]
    choice = quantize(task, path, tmp_path / "q.onnx", images, loader, Budget(max_drop=0.01))
    assert next(scores, None) is None
    assert tuple(choice.scores.values()) == values
    assert choice.keeps_ends == keeps_ends
    assert choice.num_layers - choice.num_quantized == 2 * keeps_ends
    made = onnx.load(tmp_path / "q.onnx")
    held = {weight.name for weight in made.graph.initializer}
    floats = [n for n in made.graph.node if n.op_type in ("Conv", "Gemm") and n.input[1] in held]
    assert len(floats) == 2 * keeps_ends


def test_a_choice_of_few_layers_has_no_inside(
    task: Classification,
    path: Path,
    loader: Loader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, asked = quantizing.quantized, []

    def all_ends(model: onnx.ModelProto, batches: object, **options: bool) -> Quantized:
        asked.append(options)
        found = original(model, batches, **options)
        return Quantized(found.model, 2, 2, 2, {})

    monkeypatch.setattr(quantizing, "quantized", all_ends)
    scored(monkeypatch, [0.9, 0.1])
    images = [np.zeros((2, 3, 32, 32), np.uint8)]
    choice = quantize(task, path, tmp_path / "q.onnx", images, loader, Budget(max_drop=0))
    assert asked == [{}]
    assert not choice.keeps_ends
