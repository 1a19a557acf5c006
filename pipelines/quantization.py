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
from regrow.pipelines.pruning.report import (
    budget_in_words,
    decided_in_a_word,
    noise_in_words,
    parts_in_words,
)
from regrow.reporting.report import Report, as_text, ranged, signed
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
    """

    path: Path
    choice: Choice
    networks: dict[str, Network]
    calibration: Calibration
    budget: Budget
    clock: Clock
    untimed: str

    @property
    def verdict(self) -> Verdict | None:
        """Return the decision: beside the unpruned network if it is known, else beside float."""
        return next(iter(self.networks.values())).verdict

    @property
    def broken(self) -> str | None:
        """Return in words how the budget is broken; None if it is not."""
        if self.verdict is None or self.verdict.is_met is not False:
            return None
        return (
            f"the budget of {self.budget.max_drop} is broken by INT8 on "
            f"{self.verdict.num_images} test images: the score of the {next(iter(self.networks))} "
            f"network changed by {self.verdict.interval}"
        )


def quantize_verified(
    task: Task,
    reference: Task | None,
    path: Path,
    data: GrowingData,
    calibration: Calibration,
    budget: Budget,
    clock: Clock = Clock(),
) -> Int8:
    """Quantise an exported model and judge it; it becomes `model.onnx` unless the budget is broken.

    Args:
        task: The network, on the CPU.
        reference: The unpruned network, on the CPU, if it is known.
        path: The verified ONNX file of the network.
        data: The data; the budget is decided on its test images, all else on the others.
        calibration: The images that are calibrated on.
        budget: The accepted drop of the score.
        clock: How the files are timed; a command that cannot time one is told in the outcome.

    Raises:
        BadInput: If the network cannot be quantised.
    """
    model, file = OnnxModel(path), path.with_name(MODEL_FILE)
    made = file.with_suffix(".unverified.onnx")
    images = calibration.batches(model)
    choice = quantize(task, path, made, images, data.val_dataloader(), budget)
    with TemporaryDirectory(prefix="regrow-int8-") as folder:
        files, tasks = {"float": path, "INT8": made}, {"float": task, "INT8": task}
        if reference is not None:
            graph = Path(folder) / MODEL_FILE
            opset = metadata_of(path)["opset"]
            export_graph(reference, graph, opset=opset, input_type=model.input_type)
            files, tasks = {"unpruned": graph, **files}, {"unpruned": reference, **tasks}
        tests = {
            name: evaluate_graph(tasks[name], files[name], data.test_dataloader(), f"test, {name}")
            for name in files
        }
        example = model.as_input(task.example_images(clock.batch).numpy(force=True))
        times, untimed = _timed(files, example, clock)
        after = tests["INT8"].evidence
        networks = {
            name: Network(
                tests[name],
                files[name].stat().st_size,
                times.get(name, []),
                None if name == "INT8" else decide(tests[name].evidence, after, budget),
            )
            for name in files
        }
    outcome = Int8(made, choice, networks, calibration, budget, clock, untimed)
    if outcome.broken is not None:
        return outcome
    made.replace(file)
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


def add_int8(report: Report, int8: Int8) -> None:
    """Report a network in INT8: scores, sizes and times beside float, and the verdicts.

    Args:
        report: The report.
        int8: The outcome.
    """
    choice, own = int8.choice, int8.networks["INT8"]
    report.set(
        int8={
            **asdict(choice),
            "path": int8.path.name,
            "calibration": {
                "num_images": len(int8.calibration.indices),
                "classes": int8.calibration.classes,
            },
            "budget": asdict(int8.budget),
            **{name.lower(): network.figures() for name, network in int8.networks.items()},
        }
    )
    for name, network in int8.networks.items():
        if network.verdict is not None:
            report.say(_verdict_in_words(name, network, network.verdict, own, int8.budget))
    report.say(f"INT8 was calibrated on {plural(len(int8.calibration.indices), 'training image')}.")
    score = own.evaluation.name
    report.add_table(
        "INT8",
        [
            "network",
            score,
            "file size, bytes",
            "latency, ms",
            "INT8's change",
            "interval",
            "budget",
        ],
        [_row(name, network, own) for name, network in int8.networks.items()],
        f"{_layers_in_words(choice)} Scores are those on {own.evaluation.num_images} test images; "
        "the interval is that of the change from the network of its row to INT8, in points. "
        f"{_latency_in_words(int8)}",
    )


def int8_in_words(int8: Int8) -> str:
    """Return what INT8 costs and scores beside the network in float, in one line of a log."""
    before, after = int8.networks["float"], int8.networks["INT8"]
    words = [
        f"INT8 beside float: {after.evaluation.name} {after.evaluation.value:.4f} and "
        f"{before.evaluation.value:.4f}, {after.num_bytes:,} bytes and {before.num_bytes:,}, "
        f"{as_text(after.latency_ms)} ms and {as_text(before.latency_ms)}."
    ]
    for name, network in int8.networks.items():
        if network.verdict is not None:
            words.append(f"From {name}: {budget_in_words(network.verdict, int8.budget)}")
    return " ".join(words)


def _latency_in_words(int8: Int8) -> str:
    clock = int8.clock
    batch = "one image" if clock.batch == 1 else plural(clock.batch, "image")
    if clock.command is None:
        return f"Latency is that of {batch} in ONNX Runtime, in one thread."
    if int8.untimed:
        return f"There is no latency: {int8.untimed}."
    before, after = (int8.networks[name].times for name in ("float", "INT8"))
    return (
        f"Latency is that of {batch} as {clock.program.name} prints it, run "
        f"{plural(clock.runs, 'time')} on each file, in turns: for INT8 from {min(after):.4g} to "
        f"{max(after):.4g} ms, for float from {min(before):.4g} to {max(before):.4g} ms. "
        f"{noise_in_words((before, after))}"
    )


def _verdict_in_words(
    name: str, network: Network, verdict: Verdict, own: Network, budget: Budget
) -> str:
    before, after = network.evaluation, own.evaluation
    return (
        f"From the {name} network to INT8, {before.name} went from {before.value:.4f} to "
        f"{after.value:.4f} on {verdict.num_images} test images; the change is between "
        f"{verdict.interval[0]:+.4f} and {verdict.interval[1]:+.4f}, where each bound alone holds "
        f"at {100 * budget.confidence:g} % confidence. {budget_in_words(verdict, budget)} "
        f"{parts_in_words(verdict)}"
    )


def _row(name: str, network: Network, own: Network) -> list[Any]:
    about = [name, network.evaluation.value, network.num_bytes, network.latency_ms]
    if network.verdict is None:
        return [*about, "-", "-", "-"]
    change = own.evaluation.value - network.evaluation.value
    decided = decided_in_a_word(network.verdict.is_met)
    return [*about, signed(change), ranged(network.verdict.interval), decided]


def _layers_in_words(choice: Choice) -> str:
    words = f"{choice.num_quantized} of {choice.num_layers} layers are INT8"
    tried, whole = choice.scores, choice.scores["float"]
    if choice.keeps_ends:
        words += (
            f"; the first and last are float, with which the validation score is "
            f"{tried['inner']:.4f} and not {tried['all']:.4f} (float {whole:.4f})"
        )
    if choice.in_float:
        named = ", ".join(f"{name} ({count})" for name, count in choice.in_float.items())
        words += f"; without an INT8 kernel, and so in float between them, are {named}"
    return f"{words}."
