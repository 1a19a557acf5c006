"""The baseline of a monitor: the served model over the pictures that it was not fitted to."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regrow.data.config import data_beside
from regrow.data.images.pixels import Pixels
from regrow.data.images.transforms import small_image
from regrow.data.module import GrowingData
from regrow.data.targets.labels import VOID, Boxes, Item, Mask
from regrow.deploy.serving.answers import predictions
from regrow.deploy.serving.opener import Opener
from regrow.deploy.serving.served_model import ServedModel
from regrow.errors import BadInput
from regrow.files import write_atomic
from regrow.logs import log
from regrow.models.checkpoint import load_provenance
from regrow.monitor.alarms.risk import TOLERANCE
from regrow.monitor.baseline import Baseline, BaselineBuilder
from regrow.monitor.draws import key_of
from regrow.monitor.files.analysis import write_analysis
from regrow.monitor.network.reference import NetworkBuilder
from regrow.monitor.network.served import NETWORK
from regrow.monitor.truths import Truth
from regrow.pipelines.monitoring.keeping import keep_network_
from regrow.pipelines.seen import seen_before
from regrow.pipelines.serve import promoted_model
from regrow.progress import progress
from regrow.reporting.lock import releases_folders
from regrow.reporting.run_folder import open_run, refuse_run

Split = Literal["test", "val"]


@releases_folders
def run_baseline(
    model: Path,
    out: Path,
    data: GrowingData | None = None,
    split: Split | None = None,
    max_images: int = 5000,
    tolerance: float = TOLERANCE,
    label: str | None = None,
    attributions: int = 200,
    allow: list[str] | None = None,
    command_line: str = "",
) -> Baseline:
    """Freeze what a model sees and answers on pictures that it was not fitted to.

    Args:
        model: The model: a run folder, a checkpoint, `model.onnx`, `model.tar.gz`, or a
            `promoted.json`.
        out: The monitor's folder; one that exists is moved aside.
        data: The data that the reference comes from; by default that of `data.yaml` beside the
            model.
        split: The split of the reference: `test`, or `val`; null takes the test images where there
            are some. Validation images chose the best epoch, so its scores are slightly too good.
        max_images: Largest number of pictures in the reference.
        tolerance: How much larger the loss may get before the model is to be replaced, in [0, 1].
        label: Class that bias metrics set against the rest; null takes the one that the fewest
            pictures of the reference show.
        attributions: Largest number of pictures of which it is computed what each of 16 cells adds
            to the answer, at 200 runs of the model each; 0 for none.
        allow: Other packages that the network of a checkpoint may come from.
        command_line: The command, for the mark of the folder.

    Returns:
        The baseline, written.

    Raises:
        BadInput: If anything given cannot be used, or the reference is too small.
    """
    if not 0 <= tolerance <= 1:
        raise BadInput(f"tolerance is {tolerance}, it must lie in [0, 1]")
    if max_images < 1:
        raise BadInput(f"max_images is {max_images}, it must be at least 1")
    if attributions < 0:
        raise BadInput(f"attributions is {attributions}, it must be at least 0")
    with tempfile.TemporaryDirectory() as place:
        graph = Path(place) / NETWORK
        served, found = Opener(promoted_model, allow=tuple(allow or ())).open(model, keep=graph)
        refuse_run(out, found.file)
        data = data or data_beside(found.file)
        chosen = _prepared_split(data, split, model, served, found.file)
        network = keep_network_(graph)
        builder = BaselineBuilder(
            served.sha256,
            found.file.name,
            served.kind,
            served.classes,
            predictor(served),
            _label(data, chosen, served.classes, label),
            None if network is None else NetworkBuilder(network, attributions),
        )
        pairs = _references(data, chosen, max_images)
        _add_all(builder, pairs, served.classes)
        baseline = builder.build(chosen, data.decoding.grey_range, tolerance)
        folder = open_run(out, command_line)
        if network is not None:
            write_atomic(folder / NETWORK, lambda file: file.write(graph.read_bytes()))
        write_analysis(folder, builder.by_facet.parts())
        baseline.write(folder)
    told = baseline.promise
    log.info(
        f"{out}: baseline of {found.file.name} ({served.sha256[:12]}) on {len(pairs):,} {chosen} "
        f"images, {len(baseline.scores)} scores"
        + ("" if told is None else f", loss {told.risk:.3f}, at most {told.limit:.3f} promised")
    )
    return baseline


def _prepared_split(
    data: GrowingData, split: Split | None, model: Path, served: ServedModel, file: Path
) -> Split:
    """Make the data ready for a model, and return the split of the reference.

    Raises:
        BadInput: If the data is of another kind, or has no such images.
    """
    if data.kind != served.kind:
        raise BadInput(f"{model} predicts {served.kind}, the data has {data.kind}")
    if served.kind == "masks" and len(served.classes) > VOID:
        raise BadInput(
            f"{model} has {len(served.classes):,} classes; masks have at most {VOID}, as number "
            f"{VOID} is that of unknown pixels"
        )
    if file.suffix == ".ckpt":
        data.keep_splits_(load_provenance(file).manifest)
    data.order_classes(served.classes)
    return _chosen_split(data, split, file)


def _add_all(
    builder: BaselineBuilder, pairs: Sequence[tuple[Item, Pixels]], classes: Sequence[str]
) -> None:
    for item, kept in progress(pairs, "baseline", len(pairs)):
        size = item.image.stat().st_size if isinstance(item.image, Path) else None
        truth = truth_of(item, kept, classes)
        builder.add(item.name, kept.whole(item), size, truth, item.group)


def _chosen_split(data: GrowingData, split: Split | None, model: Path) -> Split:
    """Return the split of the reference, and say what is to be known of it."""
    chosen: Split = split or ("test" if data.snapshot.indices("test") else "val")
    if not data.snapshot.indices(chosen):
        raise BadInput(f"the data has no {chosen} images; give it some, or another split")
    if chosen == "val":
        log.warning(
            "the reference is the validation split, which chose the best epoch: scores on it are "
            "slightly too good; a test split is better"
        )
    elif model.suffix == ".ckpt":
        seen = seen_before(data, [model])
        if seen:
            log.warning(
                f"{len(seen)} of the test images were also trained or validated on "
                f"({', '.join(seen[:3])}): clean traffic may look changed beside them"
            )
    return chosen


def _label(data: GrowingData, split: Split, classes: Sequence[str], label: str | None) -> str:
    """Return the class that is set against the rest: that asked for, or else the rarest one."""
    if label is not None and label not in classes:
        raise BadInput(f"label is {label!r}, it must be a class: {', '.join(classes)}")
    shown = data.census()[split]["classes"]
    counts = {name: shown[name]["images"] for name in classes if name in shown}
    there = {name: count for name, count in counts.items() if count}
    return label or min(there, key=lambda name: there[name], default=classes[-1])


def _references(data: GrowingData, split: Split, most: int) -> list[tuple[Item, Pixels]]:
    """Return the items of a split with their pixels; of too many those with the least hashes."""
    items = [data.snapshot.items[place] for place in data.snapshot.indices(split)]
    pairs = list(zip(items, data.kept(split), strict=True))
    if len(pairs) > most:
        pairs = sorted(pairs, key=lambda pair: key_of(pair[0].name))[:most]
    return pairs


def predictor(model: ServedModel) -> Callable[[np.ndarray], Mapping[str, Any]]:
    """Return a function from a picture, uint8 RGB (h, w, 3), to the prediction that is served."""

    def predict(pixels: np.ndarray) -> Mapping[str, Any]:
        images = model.as_input(small_image(pixels, model.size).numpy()[None])
        outputs = model.run(images, model.outputs)
        return predictions(model, outputs, [(pixels.shape[0], pixels.shape[1])])[0]

    return predict


def truth_of(item: Item, kept: Pixels, classes: Sequence[str]) -> Truth:
    """Return the label of an item as it is compared with a prediction.

    Args:
        item: The item.
        kept: Its pixels.
        classes: The model's classes; a mask is void where it shows another one.
    """
    target = item.target
    if isinstance(target, str):
        return target
    if isinstance(target, Boxes):
        boxes = zip(target.classes, target.xyxy.tolist(), target.marks, strict=True)
        return [(name, (b[0], b[1], b[2], b[3])) for name, b, mark in boxes if not mark]
    return _mask_truth(kept.numbers(target), target, classes)


def _mask_truth(numbers: np.ndarray, mask: Mask, classes: Sequence[str]) -> np.ndarray:
    truth = np.full(numbers.shape, VOID, dtype=np.int64)
    for number, name in mask.names.items():
        if name in classes:
            truth[numbers == number] = classes.index(name)
    return truth
