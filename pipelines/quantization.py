"""INT8 in an export: calibrated on training images, judged by the budget on test images."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from regrow.data.module import GrowingData
from regrow.deploy.exporting import MODEL_FILE
from regrow.deploy.quantizing import Choice, evaluate_graph, quantize
from regrow.deploy.runtime import OnnxModel, metadata_of
from regrow.errors import BadInput
from regrow.logs import log
from regrow.metrics.budget import Budget, Verdict, decide
from regrow.models.latency import Clock, time_files
from regrow.models.onnx.command_clock import ClockFailed
from regrow.models.onnx.graph import export_graph
from regrow.models.task import Task
from regrow.pipelines.quantization_aware import FineTuning, Tuned, fine_tuned
from regrow.text import plural
from regrow.training.evaluation import Evaluation

FLOAT_FILE = "model.float.onnx"


class Calibration:
    """Training images that INT8 is calibrated on, as they are, without augmentation.

    Args:
        data: The data.
        num_images: Number of images; all where there are fewer.
        seed: The random seed by which they are drawn.

    Raises:
        BadInput: If they show one class of several alone: what the others need would be cut off.
    """

    def __init__(self, data: GrowingData, num_images: int, seed: int) -> None:
        self.examples, self.batch_size = data.examples("train"), data.batch_size
        self.examples.augment = []
        drawn = np.random.default_rng(seed).permutation(len(self.examples))[:num_images]
        self.indices = sorted(drawn.tolist())
        shown = data.shown("train")
        self.classes = sorted({name for index in self.indices for name in shown[index]})
        if len(self.classes) < 2 <= len(data.classes):
            self._refuse(num_images)

    def _refuse(self, asked: int) -> None:
        only = f"{self.classes[0]} alone" if self.classes else "no class"
        more = f"raise calibration_images ({asked})"
        if asked >= len(self.indices) == len(self.examples):
            more = "give the data training images of other classes"
        raise BadInput(
            f"INT8: the {plural(len(self.indices), 'training image')} to calibrate on show {only}, "
            f"and what other classes need would be cut off; {more}"
        )

    def batches(self, model: OnnxModel) -> "_Batches":
        """Return the images in batches as a model takes them; they can be read more than once."""
        return _Batches(self, model)


@dataclass(frozen=True, slots=True)
class _Batches:
    calibration: Calibration
    model: OnnxModel

    def __iter__(self) -> Iterator[np.ndarray]:
        own = self.calibration
        for start in range(0, len(own.indices), own.batch_size):
            some = own.indices[start : start + own.batch_size]
            images = np.stack([own.examples[(0, index)][0].numpy() for index in some])
            yield self.model.as_input(images)


@dataclass(frozen=True, slots=True)
class Network:
    """One of the networks that are compared.

    Args:
        evaluation: Its scores on test images in ONNX Runtime.
        num_bytes: The size of its ONNX file.
        times: The times of a batch of images, in milliseconds; none where they are not known.
        verdict: Whether the network in INT8 keeps the budget against it; None of INT8 itself.
    """

    evaluation: Evaluation
    num_bytes: int
    times: Sequence[float]
    verdict: Verdict | None

    @property
    def latency_ms(self) -> float | None:
        """Return the median of the times; None if there are none."""
        return statistics.median(self.times) if self.times else None

    def figures(self) -> dict[str, Any]:
        """Return the figures for the report."""
        return {
            "score": self.evaluation.value,
            "bytes": self.num_bytes,
            "latency_ms": self.latency_ms,
            "times": list(self.times),
            "budget": None if self.verdict is None else asdict(self.verdict),
        }


@dataclass(frozen=True, slots=True)
class Int8:
    """The outcome of a quantisation.

    Args:
        path: The file in INT8: `model.onnx`, or `model.unverified.onnx` if the budget is broken.
        choice: What is in INT8 and what in float.
        networks: `unpruned`, if it is known, `float` and `INT8`.
        calibration: The images that it was calibrated on.
        budget: The budget.
        clock: How the files were timed.
        untimed: Why they were not; empty if they were.
        before: The outcome before fine-tuning, which broke the budget; None if there was none.
        tuned: What was fine-tuned; None if nothing was.
        untuned: Why it was not, although that was asked for; empty if it was.
    """

    path: Path
    choice: Choice
    networks: dict[str, Network]
    calibration: Calibration
    budget: Budget
    clock: Clock
    untimed: str
    before: "Int8 | None" = None
    tuned: Tuned | None = None
    untuned: str = ""

    @property
    def verdict(self) -> Verdict | None:
        """Return the decision: beside the unpruned network if it is known, else beside float."""
        return next(iter(self.networks.values())).verdict

    @property
    def broken(self) -> str | None:
        """Return in words how the budget is broken, and the way out; None if it is not."""
        if self.verdict is None or self.verdict.is_met is not False:
            return None
        words = (
            f"the budget of {self.budget.max_drop} is broken by INT8 on "
            f"{self.verdict.num_images} test images: the score of the {next(iter(self.networks))} "
            f"network changed by {self.verdict.interval}"
        )
        if self.before is not None and self.before.verdict is not None:
            return f"{words}, and by {self.before.verdict.interval} before fine-tuning"
        return f"{words}; {self.untuned or 'fine-tune it with INT8 simulated, by --qat_epochs'}"


def quantize_verified(
    task: Task,
    reference: Task | None,
    path: Path,
    data: GrowingData,
    calibration: Calibration,
    budget: Budget,
    clock: Clock = Clock(),
    tuning: FineTuning | None = None,
) -> Int8:
    """Quantise an exported model and judge it; it becomes `model.onnx` unless the budget is broken.

    Where it is broken, the network is fine-tuned with INT8 simulated, if that is asked for, and
    what comes of it is quantised and judged likewise; the file from before stays as it is.

    Args:
        task: The network, on the CPU.
        reference: The unpruned network, on the CPU, if it is known.
        path: The verified ONNX file of the network.
        data: The data; the budget is decided on its test images, all else on the others.
        calibration: The images that are calibrated on.
        budget: The accepted drop of the score.
        clock: How the files are timed; a command that cannot time one is told in the outcome.
        tuning: The fine-tuning where the budget is broken; None is none.

    Raises:
        BadInput: If the network cannot be quantised.
    """
    file = path.with_name(MODEL_FILE)
    with TemporaryDirectory(prefix="regrow-int8-") as folder:
        judge = _Judge(Path(folder), path, {}, {}, data, calibration, budget, clock)
        if reference is not None:
            judge.add_("unpruned", reference, judge.exported(reference, "unpruned"))
        judge.add_("float", task, path)
        first = judge(task, path, file.with_suffix(".unverified.onnx"))
        if first.broken is None or tuning is None or not tuning.epochs:
            return _named(first, file)
        try:
            work, tuned = fine_tuned(task, path, first.path, data, tuning)
        except BadInput as error:
            log.warning(f"INT8 is not fine-tuned: {error}")
            return replace(first, untuned=f"it is not fine-tuned: {error}")
        graph = judge.exported(work, "tuned")
        second = judge(work, graph, file.with_suffix(".tuned.unverified.onnx"), first)
    return _named(replace(second, tuned=tuned), file)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Quantises graphs, and compares each on the test images with the networks in float.

    Args:
        folder: A folder for graphs that nobody keeps.
        like: The exported model, whose type of images and operators all others have.
        files: The ONNX files of the networks in float.
        tests: Their scores on test images.
        data: The data.
        calibration: The images that are calibrated on.
        budget: The accepted drop of the score.
        clock: How the files are timed.
    """

    folder: Path
    like: Path
    files: dict[str, Path]
    tests: dict[str, Evaluation]
    data: GrowingData
    calibration: Calibration
    budget: Budget
    clock: Clock

    def exported(self, task: Task, name: str) -> Path:
        """Export a network with images and operators of the same kinds."""
        opset, input_type = metadata_of(self.like)["opset"], OnnxModel(self.like).input_type
        file = self.folder / f"{name}.onnx"
        return export_graph(task, file, opset=opset, input_type=input_type)

    def add_(self, name: str, task: Task, path: Path) -> None:
        """Score a network in float, which those in INT8 are compared with."""
        loader = self.data.test_dataloader()
        self.tests[name] = evaluate_graph(task, path, loader, f"test, {name}")
        self.files[name] = path

    def __call__(self, task: Task, path: Path, made: Path, before: Int8 | None = None) -> Int8:
        """Quantise a graph and decide the budget on it.

        Args:
            task: Its network.
            path: The graph in float.
            made: The file of the one in INT8.
            before: The outcome before fine-tuning.
        """
        model = OnnxModel(path)
        images = self.calibration.batches(model)
        choice = quantize(task, path, made, images, self.data.val_dataloader(), self.budget)
        test = evaluate_graph(task, made, self.data.test_dataloader(), "test, INT8")
        files, tests = {**self.files, "INT8": made}, {**self.tests, "INT8": test}
        example = model.as_input(task.example_images(self.clock.batch).numpy(force=True))
        times, untimed = _timed(files, example, self.clock)
        networks = {
            name: Network(
                own,
                files[name].stat().st_size,
                times.get(name, []),
                None if name == "INT8" else decide(own.evidence, test.evidence, self.budget),
            )
            for name, own in tests.items()
        }
        return Int8(
            made, choice, networks, self.calibration, self.budget, self.clock, untimed, before
        )


def _named(outcome: Int8, file: Path) -> Int8:
    """Give a file in INT8 its name, if it keeps the budget."""
    if outcome.broken is not None:
        return outcome
    outcome.path.replace(file)
    return replace(outcome, path=file)


def _timed(
    files: Mapping[str, Path], images: np.ndarray, clock: Clock
) -> tuple[dict[str, list[float]], str]:
    """Return the times of each file, or why there are none: a clock may not take INT8."""
    try:
        return time_files(files, images, clock), ""
    except ClockFailed as error:
        log.warning(f"INT8 is not timed: {error}")
        return {}, str(error)
