"""A network that INT8 breaks is fine-tuned, keeps the budget, and nothing from before is lost."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from quantised import SIZE, accuracy, unbalance_
from watched_models import untrained_task, watched_data

from given import Given
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Item
from regrow.deploy.quantizing import quantize
from regrow.errors import BadInput, CheckFailed
from regrow.metrics.budget import Budget
from regrow.models.checkpoint import load, load_provenance, save
from regrow.models.classification import Classification
from regrow.models.onnx.graph import export_graph
from regrow.models.optimization import Optimization
from regrow.pipelines.export import run_export
from regrow.pipelines.quantization_aware import FineTuning, fine_tuned
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit
from regrow.training.trainer import fine_tune_

BUDGET = Budget(max_drop=0.2)


def ramps(count: int, seed: int) -> list[np.ndarray]:
    """Return noisy pictures that become brighter to the right and, every other one, downwards."""
    draw, pictures = np.random.default_rng(seed), []
    for number in range(count):
        ramp = np.linspace(0, 1, SIZE[1])[None].repeat(SIZE[0], 0)
        ramp = draw.uniform(30, 60) * (ramp.T if number % 2 else ramp)
        colors = ramp[:, :, None] * draw.uniform(0.3, 1, 3) + draw.normal(0, 12, (*SIZE, 3))
        pictures.append((draw.uniform(40, 160) + colors).clip(0, 255).astype(np.uint8))
    return pictures


def made_data() -> GrowingData:
    items = [
        Item(f"{split}{n}", image, "ab"[n % 2], split)
        for seed, (split, count) in enumerate({"train": 96, "val": 40, "test": 200}.items())
        for n, image in enumerate(ramps(count, seed))
    ]
    data = GrowingData(Given(items), size=SIZE, batch_size=16)
    data.order_classes(["a", "b"])
    return data


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network one of whose channels is larger than all others, and what it learnt from.

    INT8 has one scale for all channels of a tensor, so that the others round to little.
    """

    data: GrowingData
    checkpoint: Path
    float_score: float


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    torch.manual_seed(0)
    folder, data = tmp_path_factory.mktemp("trained"), made_data()
    task = Classification(
        ["a", "b"], SIZE, net_args={"width": 4}, optimization=Optimization(lr=0.01)
    )
    fine_tune_(task, data, Fit(epochs=6, devices=1), folder)
    unbalance_(task, 128)
    save(folder / "net.ckpt", task.eval())
    (folder / "data.yaml").write_text("data: {}\n")
    score = evaluate(task, data.test_dataloader()).value
    assert score > 0.95
    return Trained(data, folder / "net.ckpt", score)


@pytest.fixture(scope="module")
def run(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "run"
    run_export(
        trained.checkpoint, trained.data, folder, int8=True, budget=BUDGET, qat_epochs=6,
        reference=trained.checkpoint,
    )  # fmt: skip
    return folder


def figures_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "report.json").read_text())["int8"]
    return found


def test_what_int8_broke_keeps_the_budget_after_fine_tuning(trained: Trained, run: Path) -> None:
    found = figures_of(run)
    before = found["before_fine_tuning"]
    assert before["unpruned"]["budget"]["is_met"] is False
    assert found["unpruned"]["budget"]["is_met"] is True
    assert found["float"]["score"] == pytest.approx(trained.float_score)
    # What is reported is what the files give, of which none is lost.
    assert found["path"] == "model.onnx"
    assert found["int8"]["score"] == pytest.approx(accuracy(run / "model.onnx", trained.data))
    broken = run / "model.unverified.onnx"
    assert before["int8"]["score"] == pytest.approx(accuracy(broken, trained.data))
    whole = run / "model.float.onnx"
    assert accuracy(whole, trained.data) == pytest.approx(trained.float_score)
    assert "QuantizeLinear" in {n.op_type for n in onnx.load(run / "model.onnx").graph.node}
    tuned = found["fine_tuning"]
    assert tuned == {
        "epochs": 6,
        "lr": pytest.approx(0.001),
        "num_simulated": before["num_quantized"],
        "left": [],
        "checkpoint": "int8.ckpt",
    }


def test_the_report_has_a_row_for_it_and_tells_of_two_decisions(run: Path) -> None:
    page = (run / "report.md").read_text()
    rows = [line.split(" | ")[0] for line in page.partition("## INT8")[2].splitlines()[4:10]]
    wanted = ["unpruned", "float", "INT8 before fine-tuning", "INT8 fine-tuned"]
    assert [row.strip("| ") for row in rows][2:] == wanted
    assert "accepted by either with a probability of at most 10 %" in page
    assert "model.unverified.onnx is that network" in page
    assert page.index("The budget is broken.") < page.index("The budget is met.")


def test_the_fine_tuned_checkpoint_is_a_plain_network(trained: Trained, run: Path) -> None:
    old, new = load(trained.checkpoint), load(run / "int8.ckpt")
    assert [*new.net.state_dict()] == [*old.net.state_dict()]
    assert new.arguments() == old.arguments()
    for name, value in old.net.state_dict().items():
        if "running" in name:
            assert new.net.get_buffer(name).equal(value), "norms use what they had measured"
    moved = [not p.equal(q) for p, q in zip(old.parameters(), new.parameters(), strict=True)]
    assert all(moved)
    parent = load_provenance(run / "int8.ckpt")
    assert parent.parent == json.loads((run / "report.json").read_text())["parent"]
    assert (run / "data.yaml").read_text() == "data: {}\n"


def tuning(checkpoint: Path, **options: Any) -> FineTuning:
    given = {"epochs": 1, "lr": None, "fit": Fit(devices=1), "optimization": None, "seed": 0}
    return FineTuning(**{**given, "checkpoint": checkpoint, "command_line": "", **options})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_each_kind_of_network_is_fine_tuned(kind: str, tmp_path: Path) -> None:
    task, data = untrained_task(kind), watched_data(kind)
    data.order_classes(data.classes)
    save(tmp_path / "net.ckpt", task)
    graph = export_graph(task, tmp_path / "float.onnx")
    images = [image.numpy() for image, _ in data.test_dataloader()]
    loader = data.val_dataloader()
    choice = quantize(task, graph, tmp_path / "q.onnx", images, loader, Budget(max_drop=1))
    work, tuned = fine_tuned(
        task, graph, tmp_path / "q.onnx", data, tuning(tmp_path / "net.ckpt", epochs=2)
    )
    assert tuned.num_simulated == choice.num_quantized
    assert tuned.left == ()
    kept = load(tmp_path / "int8.ckpt")
    for name, value in work.net.state_dict().items():
        assert kept.net.state_dict()[name].equal(value)
    moved = [not p.equal(q) for p, q in zip(task.parameters(), work.parameters(), strict=True)]
    assert any(moved)
    again, _ = fine_tuned(
        task, graph, tmp_path / "q.onnx", data, tuning(tmp_path / "net.ckpt", epochs=2)
    )
    for one, other in zip(again.parameters(), work.parameters(), strict=True):
        assert one.equal(other), "a function of the seed"


def test_a_fine_tuning_that_diverges_loses_nothing(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(CheckFailed, match=r"broken by INT8 .*; it is not fine-tuned: training has"):
        run_export(
            trained.checkpoint, trained.data, run, int8=True, budget=BUDGET, qat_epochs=1,
            qat_lr=1e30,
        )  # fmt: skip
    assert figures_of(run)["fine_tuning"] is None
    assert "It is not fine-tuned: training has left NaN" in (run / "report.md").read_text()
    assert (run / "model.unverified.onnx").is_file()
    assert not (run / "int8.ckpt").exists()


def test_a_broken_budget_names_the_way_out(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="fine-tune it with INT8 simulated, by --qat_epochs"):
        run_export(trained.checkpoint, trained.data, tmp_path / "run", int8=True, budget=BUDGET)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"qat_epochs": 1}, "qat_epochs has no say without --int8, which it trains for"),
        ({"int8": True, "qat_epochs": -1}, "qat_epochs is -1, it must be 0 or more"),
        ({"int8": True, "qat_lr": 0.0}, "qat_lr is 0.0, it must be > 0, or null"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    trained: Trained, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=f"^{said}"):
        run_export(trained.checkpoint, trained.data, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
