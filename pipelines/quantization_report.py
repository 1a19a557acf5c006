"""The report of a network in INT8: scores, sizes and times beside float, and the verdicts."""

from dataclasses import asdict, replace
from typing import Any

from regrow.deploy.quantizing import Choice
from regrow.metrics.budget import decide
from regrow.pipelines.pruning.report import (
    budget_in_words,
    decided_in_a_word,
    noise_in_words,
    parts_in_words,
)
from regrow.pipelines.quantization import Int8, Network
from regrow.reporting.report import Report, as_text, ranged, signed
from regrow.text import plural


def add_int8(report: Report, int8: Int8) -> None:
    """Report a network in INT8: scores, sizes and times beside float, and the verdicts.

    Args:
        report: The report.
        int8: The outcome.
    """
    choice, own = int8.choice, int8.networks["INT8"]
    report.set(
        int8={
            **_figures(int8),
            "calibration": {
                "num_images": len(int8.calibration.indices),
                "classes": int8.calibration.classes,
            },
            "budget": asdict(int8.budget),
            "fine_tuning": None if int8.tuned is None else asdict(int8.tuned),
            "before_fine_tuning": None if int8.before is None else _figures(int8.before),
        }
    )
    for line in [] if int8.before is None else _tuning_in_words(int8, int8.before):
        report.say(line)
    for line in _verdicts_in_words(int8):
        report.say(line)
    if int8.untuned:
        report.say(f"{int8.untuned[0].upper()}{int8.untuned[1:]}.")
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
        _rows(int8),
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


def _figures(int8: Int8) -> dict[str, Any]:
    networks = {name.lower(): network.figures() for name, network in int8.networks.items()}
    return {**asdict(int8.choice), "path": int8.path.name, **networks}


def _tuning_in_words(int8: Int8, before: Int8) -> list[str]:
    """Return what broke the budget, what was done, and what two decisions mean."""
    own, kept = int8.networks["INT8"].evaluation, before.networks["INT8"].evaluation
    told = f"Before fine-tuning {own.name} in INT8 was {kept.value:.4f}, and {before.path.name} "
    told += f"is that network. What follows is of the fine-tuned one, {int8.path.name}."
    doubt = 100 * (1 - int8.budget.confidence)
    told += (
        f" The same test images have decided twice, and each verdict is one of its own network "
        f"alone: one that breaks the budget is accepted by either with a probability of at most "
        f"{2 * doubt:g} %, where it is {doubt:g} % of a single decision."
    )
    tuned = [] if int8.tuned is None else [int8.tuned.in_words()]
    return [*_verdicts_in_words(before), *tuned, told]


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


def _verdicts_in_words(int8: Int8) -> list[str]:
    """Return a line for each network in float that INT8 is compared with."""
    after, lines = int8.networks["INT8"].evaluation, []
    for name, network in int8.networks.items():
        before, verdict = network.evaluation, network.verdict
        if verdict is not None:
            lines.append(
                f"From the {name} network to INT8, {before.name} went from {before.value:.4f} to "
                f"{after.value:.4f} on {verdict.num_images} test images; the change is between "
                f"{verdict.interval[0]:+.4f} and {verdict.interval[1]:+.4f}, where each bound "
                f"alone holds at {100 * int8.budget.confidence:g} % confidence. "
                f"{budget_in_words(verdict, int8.budget)} {parts_in_words(verdict)}"
            )
    return lines


def _rows(int8: Int8) -> list[list[Any]]:
    own = int8.networks["INT8"]
    rows = [_row(name, network, own) for name, network in int8.networks.items()]
    if int8.before is None:
        return rows
    first = int8.before.networks["INT8"]
    verdict = decide(first.evaluation.evidence, own.evaluation.evidence, int8.budget)
    told = _row("INT8 before fine-tuning", replace(first, verdict=verdict), own)
    return [*rows[:-1], [*told[:-1], "-"], ["INT8 fine-tuned", *rows[-1][1:]]]


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
