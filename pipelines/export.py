"""Write a checkpoint as ONNX, and verify it in ONNX Runtime on held-out images: one run."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Any

from regrow.data.config import data_beside
from regrow.data.module import GrowingData
from regrow.deploy.exporting import export_verified
from regrow.deploy.packing.archive import write_archive
from regrow.deploy.packing.packages import Content, Platform, package
from regrow.deploy.packing.placeholders import placeholders_in
from regrow.deploy.parity import Parity
from regrow.deploy.runtime import metadata_of
from regrow.errors import BadInput, CheckFailed
from regrow.files import file_hash, write_atomic
from regrow.logs import log
from regrow.metrics.budget import Budget
from regrow.models.checkpoint import load
from regrow.models.cost import count_macs, count_params
from regrow.models.onnx.graph import OPSET, build_graph
from regrow.models.onnx.metadata import InputType
from regrow.models.onnx.quantization import check_quantizable
from regrow.models.task import Task
from regrow.pipelines.quantization import (
    FLOAT_FILE,
    Calibration,
    Int8,
    quantize_verified,
)
from regrow.pipelines.quantization_aware import FineTuning
from regrow.pipelines.quantization_report import add_int8, int8_in_words
from regrow.pipelines.seen import refuse_seen, seen_before
from regrow.reporting.lock import releases_folders
from regrow.reporting.report import Report
from regrow.reporting.run_folder import open_run, refuse_run
from regrow.training.fit import Fit


@releases_folders
def run_export(
    checkpoint: Path,
    data: GrowingData | None = None,
    run: Path = Path("runs/export"),
    tolerance: float = 1e-4,
    max_score_change: float = 0.005,
    max_images: int | None = None,
    opset: int = OPSET,
    input_type: InputType = "uint8",
    int8: bool = False,
    calibration_images: int = 256,
    qat_epochs: int = 0,
    qat_lr: float | None = None,
    budget: Budget = Budget(),
    reference: Path | None = None,
    accept_seen: bool = False,
    seed: int = 0,
    allow: list[str] | None = None,
    for_: Platform | None = None,
    command_line: str = "",
) -> Report:
    """Export a checkpoint as `model.onnx`, with a report, if ONNX Runtime agrees with PyTorch.

    Args:
        checkpoint: The network, dense or pruned.
        data: The data whose test images are compared; by default that of `data.yaml` beside the
            checkpoint.
        run: The run's folder; one that exists is moved aside.
        tolerance: Largest accepted difference of an output, as a share of its largest magnitude.
        max_score_change: Largest accepted difference of the scores, in [0, 1].
        max_images: Largest number of test images that are compared; null takes all.
        opset: Version of ONNX's operators (opset); an older runtime needs an older one.
        input_type: Type of the input images: uint8, or float32 from 0 to 1 for runtimes without
            uint8 inputs, such as older TensorRT.
        int8: Quantise the model to INT8: weights and activations of 8 bits. `model.onnx` is then
            the model in INT8, judged by the budget, and `model.float.onnx` the verified one.
        calibration_images: Number of training images that INT8 is calibrated on.
        qat_epochs: Quantisation-aware fine-tuning where INT8 breaks the budget: passes over the
            training images with INT8 simulated, after which it is decided again; 0 is none.
        qat_lr: Learning rate of that fine-tuning; null is a tenth of that of the checkpoint's
            training.
        budget: The accuracy budget of INT8: how much of the score may be lost, decided on all test
            images against the reference, or without one against the network in float.
        reference: The checkpoint of the unpruned network that INT8 is compared with; null is none.
        accept_seen: Decide the budget although some test images have the pixels of training or
            validation images, of the data or of the networks' own.
        seed: The random seed by which calibration images are drawn.
        allow: Other packages that the checkpoint's network may come from.
        for_: Platform that the model is packed for besides: `sagemaker`, `triton` or `kserve`;
            null packs nothing.
        command_line: The command, for the report.

    Returns:
        The report, written.

    Raises:
        BadInput: If anything given cannot be used.
        CheckFailed: If the two do not agree, or INT8 breaks the budget; the report is written all
            the same.
    """
    started = time.monotonic()
    _refuse_file(checkpoint)
    refuse_run(run, checkpoint, reference)
    _refuse_limits(tolerance, max_score_change, max_images, calibration_images)
    fit = Fit(devices=1)
    tuning = FineTuning(qat_epochs, qat_lr, fit, None, seed, checkpoint, command_line)
    if not int8:
        _refuse_without_int8(budget, reference, qat_epochs)
    data, packages = data or data_beside(checkpoint), tuple(allow or ())
    dense = None if reference is None else _loaded(reference, data, packages)
    task = _loaded(checkpoint, data, packages)
    if dense is not None and dense.classes != task.classes:
        raise BadInput(f"{reference} has other classes than {checkpoint}, or in another order")
    loader = data.test_dataloader()
    calibration = None
    if int8:
        _refuse_seen(data, [checkpoint, reference], budget, accept_seen)
        calibration = Calibration(data, calibration_images, seed)
        check_quantizable(build_graph(task, opset=opset))
    run = open_run(run, command_line)
    parity = export_verified(
        task,
        run / FLOAT_FILE if int8 else run,
        loader,
        tolerance=tolerance,
        max_score_change=max_score_change,
        max_images=max_images,
        opset=opset,
        input_type=input_type,
    )
    report = _report(task, run, command_line, checkpoint, data, parity)
    made = None
    if calibration is not None and parity.is_equal:
        made = quantize_verified(task, dense, parity.path, data, calibration, budget, tuning=tuning)
        report.set(seeds=[seed])
        before, after = (made.networks[name].evaluation for name in ("float", "INT8"))
        report.set_score(parity.score_name, after.value)
        add_int8(report, made)
        report.add_per_class(before.per_class, after.per_class, after.name)
    model = parity.path if made is None else made.path
    _add_use(report, metadata_of(model))
    report.set(seconds=round(time.monotonic() - started, 1))
    report.write()
    _tell(checkpoint, run, parity, made)
    if for_ is not None:
        _pack(run, for_, model)
    return report


def _report(
    task: Task, run: Path, command_line: str, checkpoint: Path, data: GrowingData, parity: Parity
) -> Report:
    """Return the report of an exported network, with its comparison."""
    report = Report.of(task, run, "Export", command_line)
    report.set(
        parent=file_hash(checkpoint),
        data={"hash": data.snapshot.hash, "diff": None, "remarks": data.remarks.to_dict()},
        params=count_params(task.net),
        macs=count_macs(task),
    )
    report.set_score(parity.score_name, parity.score)
    add_parity(report, parity)
    return report


def _tell(checkpoint: Path, run: Path, parity: Parity, made: Int8 | None) -> None:
    """Log what was verified and decided.

    Raises:
        CheckFailed: If the two do not agree, or INT8 breaks the budget.
    """
    page = run / "report.md"
    if not parity.is_equal:
        raise CheckFailed(f"{checkpoint}: {parity.reason}; see {page}")
    log.info(
        f"{parity.path}: verified on {parity.num_images} images, largest difference "
        f"{parity.max_abs_diff:.3g}, {parity.score_name} {parity.score:.4f}"
    )
    if made is None:
        return
    if made.broken is not None:
        raise CheckFailed(f"{made.broken}; see {page}")
    log.info(f"{made.path}: {int8_in_words(made)}")


def _loaded(path: Path, data: GrowingData, packages: tuple[str, ...]) -> Task:
    # In single precision whatever it was trained in: ONNX has no bfloat16 convolution.
    task = load(path, allow=packages, kind=data.kind).float()
    data.keep_splits_(task.provenance.manifest)
    data.order_classes(task.classes)
    if task.size != data.size:
        raise BadInput(f"{path} is for images of {task.size}; set data.size to it")
    return task


def _refuse_without_int8(budget: Budget, reference: Path | None, qat_epochs: int) -> None:
    given = {"budget": budget != Budget(), "reference": reference is not None}
    if qat_epochs:
        raise BadInput("qat_epochs has no say without --int8, which it trains for; give both")
    for name, is_given in given.items():
        if is_given:
            raise BadInput(f"{name} has no say without --int8, of which it judges; give both")


def _refuse_seen(
    data: GrowingData, files: Sequence[Path | None], budget: Budget, accept_seen: bool
) -> None:
    if budget.max_drop < 1 and not accept_seen:
        refuse_seen(seen_before(data, [file for file in files if file is not None]), data)


def _pack(run: Path, platform: Platform, model: Path) -> None:
    """Write the files that a platform needs, and log what is to be set in them."""
    files = package(platform, model, file_hash(model))
    for name, content in files.items():
        write_atomic(run / name, partial(_write, content=content))
        set_there = placeholders_in([content] if isinstance(content, str) else [])
        to_set = ", ".join(f"{key} ({meaning})" for key, meaning in set_there.items())
        log.info(f"{run / name}" + (f": set {to_set}" if to_set else ""))


def _write(file: IO[bytes], content: Content) -> None:
    if isinstance(content, str):
        file.write(content.encode())
    elif isinstance(content, Path):
        with content.open("rb") as opened:
            shutil.copyfileobj(opened, file)
    else:
        write_archive(file, content)


def _refuse_file(checkpoint: Path) -> None:
    if checkpoint.suffix == ".onnx":
        raise BadInput(
            f"{checkpoint} is an ONNX file: it is exported already, and may be quantised; give the "
            "checkpoint that it was made from"
        )


def _refuse_limits(
    tolerance: float, max_score_change: float, max_images: int | None, calibration_images: int
) -> None:
    if max_images is not None and max_images < 1:
        raise BadInput(f"max_images is {max_images}, it must be at least 1, or null for all")
    for name, value in (("tolerance", tolerance), ("max_score_change", max_score_change)):
        if not 0 <= value <= 1:
            raise BadInput(f"{name} is {value}, it must lie in [0, 1]")
    if calibration_images < 1:
        raise BadInput(f"calibration_images is {calibration_images}, it must be at least 1")


def add_parity(report: Report, parity: Parity) -> None:
    """Report the comparison of ONNX Runtime with PyTorch: scores, and each output's difference."""
    report.set(onnx={**asdict(parity), "path": parity.path.name})
    verdict = "agrees" if parity.is_equal else f"does not agree ({parity.reason})"
    report.say(
        f"ONNX Runtime ({parity.provider}) {verdict} with torch on {parity.num_images} test "
        f"images: the largest difference is {parity.max_abs_diff:.3g}, {parity.score_name} is "
        f"{parity.score:.4f} there and {parity.torch_score:.4f} in torch."
    )
    rows = [[name, d.max_abs, d.relative] for name, d in parity.differences.items()]
    report.add_table("Outputs", ["output", "largest difference", "share of its scale"], rows)


def _add_use(report: Report, known: Mapping[str, Any]) -> None:
    """Report how the file is fed, and how its outputs are read; its metadata says the same."""
    given, suppression = known["input"], known["suppression"]
    report.set(input=given, outputs=known["outputs"], opset=known["opset"])
    low, high = given["range"]
    shape = ", ".join(map(str, given["shape"]))
    rows = [
        ["name", given["name"]],
        ["type", f"{given['type']}, from {low} to {high}"],
        ["shape", f"({shape}), any batch; {given['colors']}"],
        ["resize", given["resize"]],
        ["mean and deviation", "none: the graph takes them itself"],
        ["operators", f"opset {known['opset']}"],
    ]
    report.add_table("How to feed model.onnx", ["input", "is"], rows)
    rows = [[name, meaning] for name, meaning in known["outputs"].items()]
    if suppression:
        rows.append(["at most", f"{suppression['max_detections']} detections an image: the best"])
    report.add_table("How to read its outputs", ["output", "is"], rows)
    report.say(
        "Classes are numbered from 0 in the order of regrow.classes, which stands in the file's "
        "metadata as JSON, like all of this. In Python, regrow.deploy.runtime.OnnxModel runs the "
        "file, and regrow.deploy.runtime.detections reads boxes."
    )
