"""The head of a training's report: the score, what chose the model, and its data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regrow.models.checkpoint import read
from regrow.reporting.report import Report
from regrow.text import plural
from regrow.training.evaluation import Evaluation

SPLIT = {"test": "test", "val": "validation", "train": "training"}
REMARKS = "How the data was read"  # the heading of what was read otherwise than it is written


@dataclass(frozen=True, slots=True)
class Kept:
    """The checkpoint that a training keeps, and how it was chosen.

    Args:
        path: Its file.
        epoch: The epoch whose network it is, from 1; 0 for the old network of a warm start, as it
            was before its first step.
        epochs: Number of epochs that there were.
        is_chosen: Whether validation images chose it; else it is the last one.
        chosen_by: By which score.
    """

    path: Path
    epoch: int
    epochs: int
    is_chosen: bool
    chosen_by: str

    @classmethod
    def of(cls, path: Path, epochs: int, chosen_by: str) -> "Kept":
        """Read from a run's checkpoint what it is."""
        number = read(path).get("epoch")  # a network before training holds no state of one
        epoch = number + 1 if isinstance(number, int) else 0
        return cls(path, epoch, epochs, path.stem == "best", chosen_by)

    def __str__(self) -> str:
        """Return it in words."""
        if not self.epoch:
            return "The old network as it came (epoch 0), which none of the epochs was better than,"
        many = f"of {plural(self.epochs, 'epoch')}"
        return (
            f"The {'best' if self.is_chosen else 'last'} model {many}, that of epoch {self.epoch},"
        )


def headline(found: Mapping[str, Evaluation]) -> str:
    """Return the split whose score leads: `test`, which chose nothing, where there is one."""
    return "test" if "test" in found else "val"


def describe_scores(report: Report, found: Mapping[str, Evaluation], kept: Kept) -> None:
    """Report the score on test images first, and what chose the model.

    Args:
        report: The report.
        found: The scores by split, `val` and perhaps `test`.
        kept: The checkpoint with the weights that were scored.
    """
    split = headline(found)
    first, chosen = found[split], found["val"]
    report.set_score(first.name, first.value, images=split, num_images=first.num_images)
    report.set(
        scores={
            name: {"name": e.name, "value": e.value, "num_images": e.num_images}
            for name, e in found.items()
        },
        others=first.others,
        best_epoch=kept.epoch,
        epochs=kept.epochs,
    )
    by = f", by {kept.chosen_by}" if kept.chosen_by != first.name else ""
    where = plural(first.num_images, f"{SPLIT[split]} image")
    also = f", which also chose it{by}" if split == "val" and kept.is_chosen else ""
    unseen = ", which chose nothing" if split == "test" else ""
    report.say(f"{kept} reaches {first.name} {first.value:.4f} on {where}{unseen}{also}.")
    if split == "test":
        chose = f", which chose it{by}" if kept.is_chosen else ""
        report.say(
            f"It reaches {chosen.value:.4f} on "
            f"{plural(chosen.num_images, 'validation image')}{chose}."
        )


def describe_data(report: Report, splits: Mapping[str, Mapping[str, Any]]) -> None:
    """Report how much each split has of each class.

    Args:
        report: The report.
        splits: The result of `GrowingData.census`.
    """
    report.figures["data"]["splits"] = splits
    used = {name: split for name, split in splits.items() if split["images"]}
    columns, counts = ["class"], {}
    for name, split in used.items():
        kinds = list(next(iter(split["classes"].values()), {}))
        counts[name] = kinds
        columns += [f"{SPLIT.get(name, name)} {kind}" for kind in kinds]
    classes = list(dict.fromkeys(label for split in used.values() for label in split["classes"]))
    rows: list[list[Any]] = [
        [label, *(used[n]["classes"].get(label, {}).get(k, 0) for n in used for k in counts[n])]
        for label in classes
    ]
    told = ", ".join(plural(s["images"], f"{SPLIT.get(n, n)} image") for n, s in used.items())
    report.add_table("Data", columns, rows, f"{told}.")


def describe_remarks(report: Report, lines: Sequence[str]) -> None:
    """Report what of the data was left out, clipped or read otherwise than it is written.

    Args:
        report: The report.
        lines: The remarks, from `Remarks.lines`.
    """
    if lines:
        report.say(f"Not all of the data was read as it is written: see {REMARKS}.")
        report.add_section(REMARKS, "\n\n".join(lines))
