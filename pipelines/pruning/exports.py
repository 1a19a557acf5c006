"""What a pruning run exports: the verified ONNX file of its network, and the one in INT8."""

from dataclasses import dataclass
from pathlib import Path

from regrow.deploy.exporting import export_verified
from regrow.deploy.parity import Parity
from regrow.metrics.budget import Budget
from regrow.models.checkpoint import load
from regrow.models.latency import Clock
from regrow.models.modes import copied
from regrow.models.onnx.graph import build_graph
from regrow.models.onnx.quantization import check_quantizable
from regrow.models.task import Task
from regrow.pipelines.export import add_parity
from regrow.pipelines.pruning.inputs import Inputs
from regrow.pipelines.quantization import (
    FLOAT_FILE,
    Calibration,
    Int8,
    quantize_verified,
)
from regrow.pipelines.quantization_aware import FineTuning
from regrow.pipelines.quantization_report import add_int8, int8_in_words
from regrow.reporting.report import Report


@dataclass(frozen=True, slots=True)
class Exported:
    """The exported files of a pruned network.

    Args:
        parity: How the ONNX file compares with the network.
        int8: The network in INT8, if that was asked for.
    """

    parity: Parity
    int8: Int8 | None = None

    def add_to(self, report: Report) -> None:
        """Report the comparison, and the network in INT8 beside the unpruned and the pruned one."""
        add_parity(report, self.parity)
        if self.int8 is not None:
            add_int8(report, self.int8)

    @property
    def unlike(self) -> str | None:
        """Return how ONNX Runtime and PyTorch differ; None if they agree."""
        return None if self.parity.is_equal else f"{self.parity.path}: {self.parity.reason}"

    @property
    def broken(self) -> str | None:
        """Return how the budget is broken by INT8; None if it is not."""
        return None if self.int8 is None else self.int8.broken

    def in_words(self) -> list[str]:
        """Return what INT8 costs and scores, in a line of a log; no line if there is no INT8."""
        return [] if self.int8 is None else [f"{self.int8.path}: {int8_in_words(self.int8)}"]


def export_pruned(
    checkpoint: Path,
    inputs: Inputs,
    budget: Budget,
    packages: tuple[str, ...],
    calibration: Calibration | None,
    clock: Clock,
    tuning: FineTuning | None = None,
) -> Exported:
    """Write `model.onnx` beside a pruned checkpoint, verified, in INT8 if that is asked for.

    Args:
        checkpoint: The file of the pruned network.
        inputs: The unpruned network, and the data.
        budget: The accepted drop of the score, from the unpruned network in float to INT8.
        packages: Other people's packages that the network may come from.
        calibration: The images that INT8 is calibrated on; None leaves the network in float.
        clock: How files are timed; a command's data type of images and operators are the files'.
        tuning: The fine-tuning where INT8 breaks the budget; None is none.
    """
    data, run = inputs.data, checkpoint.parent
    # In single precision whatever it was trained in: ONNX has no bfloat16 convolution.
    task = load(checkpoint, allow=packages, kind=data.kind).float()
    path = run if calibration is None else run / FLOAT_FILE
    parity = export_verified(
        task, path, data.test_dataloader(), opset=clock.opset, input_type=clock.input_type
    )
    if calibration is None or not parity.is_equal:
        return Exported(parity)
    dense = _on_cpu(inputs.dense)
    made = quantize_verified(task, dense, parity.path, data, calibration, budget, clock, tuning)
    return Exported(parity, made)


def check_exportable(inputs: Inputs, clock: Clock) -> None:
    """Refuse a network that has no INT8, before it is worked for.

    Raises:
        BadInput: If it cannot be exported, or none of its operators has an INT8 kernel.
    """
    check_quantizable(build_graph(_on_cpu(inputs.task), opset=clock.opset))


def _on_cpu(task: Task) -> Task:
    return copied(task).cpu().float().eval()
