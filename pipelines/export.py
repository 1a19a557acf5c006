"""Write a checkpoint as ONNX, and verify it in ONNX Runtime on held-out images: one run."""

import shutil
import time
from collections.abc import Mapping
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
from regrow.models.checkpoint import load
from regrow.models.cost import count_macs, count_params
from regrow.models.onnx.graph import OPSET
from regrow.models.onnx.metadata import InputType
from regrow.reporting.lock import releases_folders
from regrow.reporting.report import Report
from regrow.reporting.run_folder import open_run, refuse_run


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
        allow: Other packages that the checkpoint's network may come from.
        for_: Platform that the model is packed for besides: `sagemaker`, `triton` or `kserve`;
            null packs nothing.
        command_line: The command, for the report.

    Returns:
        The report, written.

    Raises:
        BadInput: If anything given cannot be used.
        CheckFailed: If the two do not agree; the report is written all the same.
    """
    started = time.monotonic()
    refuse_run(run, checkpoint)
    _refuse_limits(tolerance, max_score_change, max_images)
    data = data or data_beside(checkpoint)
    # In single precision whatever it was trained in: ONNX has no bfloat16 convolution.
    task = load(checkpoint, allow=tuple(allow or ()), kind=data.kind).float()
    data.keep_splits_(task.provenance.manifest)
    data.order_classes(task.classes)
    if task.size != data.size:
        raise BadInput(f"{checkpoint} is for images of {task.size}; set data.size to it")
    loader = data.test_dataloader()
    run = open_run(run, command_line)
    parity = export_verified(
        task,
        run,
        loader,
        tolerance=tolerance,
        max_score_change=max_score_change,
        max_images=max_images,
        opset=opset,
        input_type=input_type,
    )
    report = Report.of(task, run, "Export", command_line)
    report.set(
        parent=file_hash(checkpoint),
        data={"hash": data.snapshot.hash, "diff": None, "remarks": data.remarks.to_dict()},
        params=count_params(task.net),
        macs=count_macs(task),
        seconds=round(time.monotonic() - started, 1),
    )
    report.set_score(parity.score_name, parity.score)
    add_parity(report, parity)
    _add_use(report, metadata_of(parity.path))
    report.write()
    if not parity.is_equal:
        raise CheckFailed(f"{checkpoint}: {parity.reason}; see {run / 'report.md'}")
    log.info(
        f"{run / 'model.onnx'}: verified on {parity.num_images} images, largest difference "
        f"{parity.max_abs_diff:.3g}, {parity.score_name} {parity.score:.4f}"
    )
    if for_ is not None:
        _pack(run, for_, parity.path)
    return report


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


def _refuse_limits(tolerance: float, max_score_change: float, max_images: int | None) -> None:
    if max_images is not None and max_images < 1:
        raise BadInput(f"max_images is {max_images}, it must be at least 1, or null for all")
    for name, value in (("tolerance", tolerance), ("max_score_change", max_score_change)):
        if not 0 <= value <= 1:
            raise BadInput(f"{name} is {value}, it must lie in [0, 1]")


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
