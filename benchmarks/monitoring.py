"""False alarms and delays of the monitor's alarms, beside a KS test per window and other tools.

    python benchmarks/monitoring.py --part delays
    python benchmarks/monitoring.py --part corruptions harmless real --data FOLDER
    python benchmarks/monitoring.py --part others --data FOLDER --evidently PYTHON --dataeval PYTHON

`delays`: one normal score. Clean streams come from the distribution of the reference: each alarm is
a false one. Shifted streams are moved by a share of a standard deviation from their first picture
on.

`corruptions`: a trained ResNet-20 on test images of CIFAR-10, of which 2,000 are the reference,
another draw of them for each stream. Streams are clean for 500 pictures, then corrupted: at once,
or more and more over 2,000 pictures. Told for light and colours alone, with texture, with the
model's answers.

`harmless`: shifts that cost no accuracy may warn, but must not act; harmful ones must, with labels.

`real`: CamVid by day and at dusk, with a network trained by day; CIFAR-10 saved as JPEG on its way.

`others`: the same streams judged by Evidently and DataEval, each with its own Python.

The level is one false alarm in a million pictures, shared by all scores of a set. The KS test looks
at windows of 200 pictures at .05. Intervals are at 95 %: exact for shares of streams, of the order
statistics for medians. Everything drawn is a function of --seed.
"""

import argparse
import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from corruptions import CORRUPTIONS, mirror, save_as_jpeg
from monitored_models import CIFAR, Seen, kept, see, street_frames, street_model
from monitored_traffic import CHANGED, CLEAN, REFERENCE, Cifar, draw, follow
from monitoring_detectors import RUN_LENGTH, act, share, shown, warning, warnings, windows
from monitoring_others import compare

from regrow.deploy.serving.served_model import ServedModel

SHIFTS = (0.25, 0.5, 1.0)
LONGEST, SOON = 20_000, 4000  # pictures of a shifted stream, and when an alarm is early
SEVERITIES = (1, 3, 5)
# First those that cost the network little, then those that cost it much.
CORRUPTED = (
    *(("brightness", 1), ("contrast", 1), ("gaussian blur", 1)),
    *(("gaussian noise", 1), ("gaussian noise", 3), ("gaussian noise", 5)),
)
WATCHED = 4000  # pictures of a shift within which a warning is looked for


def delays(options: argparse.Namespace) -> None:
    """Print false alarms and delays of one normal score, for two sizes of the reference."""
    print(f"\none score, {options.streams} streams of {options.length:,}, one in {RUN_LENGTH:,.0f}")
    for size in (500, 2000):
        false = np.zeros(2, dtype=int)
        found: dict[float, list[float]] = {shift: [] for shift in SHIFTS}
        for stream in range(options.streams):
            random = np.random.default_rng([options.seed, size, stream])
            reference = random.standard_normal(size)
            scores = random.standard_normal(options.length)
            window = windows(reference[:, None], scores[:, None], [0])[1]
            false += np.isfinite([warning(reference, scores, random), window])
            for shift, values in found.items():
                moved = shift + random.standard_normal(LONGEST)
                values.append(warning(reference, moved, random))
        for name, count in zip(("warn", "KS by window"), false.tolist(), strict=True):
            print(f"  {size:5} {name}: {share(count, options.streams)} clean streams alarm")
        for shift, values in found.items():
            early = np.mean([value <= SOON for value in values])
            print(f"  {size:5} {shift} sd: {shown(values)}; {early:.0%} within {SOON:,}")


def corruptions(options: argparse.Namespace) -> None:
    """Print false alarms, and delays by corruption, for three sets of scores."""
    cifar = Cifar(options.data, options.work)
    sets = cifar.clean.sets()
    told = ", ".join(f"{name}: {len(columns)}" for name, columns in sets.items())
    print(f"\nCIFAR-10, reference of {REFERENCE:,} test images; scores: {told}")
    false = dict.fromkeys([*sets, "KS with Bonferroni", "KS"], 0)
    for stream in range(options.streams):
        random = np.random.default_rng([options.seed, 1, stream])
        reference, traffic = cifar.split(random)
        drawn = cifar.clean.values[draw(traffic, options.length, random)]
        found = warnings(cifar.clean.values[reference], drawn, random, sets)
        names = ("KS with Bonferroni", "KS")
        tested = windows(cifar.clean.values[reference], drawn, sets["and answers"])
        for name, first in {**found, **dict(zip(names, tested, strict=True))}.items():
            false[name] += math.isfinite(first)
    for name, count in false.items():
        print(f"  {name}: {share(count, options.streams)} clean streams alarm")
    for name, corruption in CORRUPTIONS.items():
        for severity in SEVERITIES:
            changed = cifar.changed(name, corruption, severity)
            print(f"  {name} {severity}, right {1 - changed.losses.mean():.1%}")
            for kind in ("at once", "slowly"):
                firsts = [
                    _firsts(cifar, changed, kind, [options.seed, 2, severity, *name.encode(), n])
                    for n in range(options.repeats)
                ]
                told = [f"{key} {shown([one[key] for one in firsts])}" for key in firsts[0]]
                print(f"    {kind}: {'; '.join(told)}", flush=True)


def _firsts(cifar: Cifar, changed: Seen, kind: str, seed: list[int]) -> dict[str, float]:
    """Return the delays after a change; an alarm before it counts from the change as it falls."""
    random, sets = np.random.default_rng(seed), cifar.clean.sets()
    reference, stream = follow(cifar, changed, kind, random)
    found = warnings(reference, stream, random, sets)
    found["KS with Bonferroni"] = windows(reference, stream, sets["and answers"])[0]
    return {name: first - CLEAN for name, first in found.items()}


def harmless(options: argparse.Namespace) -> None:
    """Print which shifts warn and which act, with every picture labelled."""
    cifar = Cifar(options.data, options.work)
    print(f"\nshifts of CIFAR-10, {options.streams} streams of {options.length:,} labels, warnings "
          f"within {WATCHED:,} pictures")  # fmt: skip
    changes: dict[str, Seen | dict[str, float]] = {
        "none": {},
        "labels: ships and trucks four times as often": {"ship": 4, "truck": 4},
        "labels: automobiles only": {name: float(name == "automobile") for name in CIFAR},
        "labels: cats, dogs and birds four times as often": {"cat": 4, "dog": 4, "bird": 4},
        "mirrored": cifar.changed("mirror", mirror, 1),
    }
    for corruption, severity in CORRUPTED:
        name, own = f"{corruption} {severity}", CORRUPTIONS[corruption]
        changes[name] = cifar.changed(corruption, own, severity)
    for name, change in changes.items():
        _print_shift(cifar, name, change, options)


def _print_shift(
    cifar: Cifar, name: str, change: Seen | dict[str, float], options: argparse.Namespace
) -> None:
    """Print how a change of the pictures, or of how often each class comes, is told."""
    warned, acted, limits, losses = [], [], [], []
    for stream in range(options.streams):
        random = np.random.default_rng([options.seed, 3, *name.encode(), stream])
        reference, traffic = cifar.split(random)
        if isinstance(change, Seen):
            seen, drawn = change, draw(range(CHANGED), options.length, random)
        else:
            seen = cifar.clean
            weights = np.array([change.get(CIFAR[n], 1.0) for n in seen.truths[traffic]])
            drawn = random.choice(traffic, options.length, p=weights / weights.sum())
        columns = {"": range(len(seen.names))}
        before = cifar.clean.values[reference]
        warned.append(warnings(before, seen.values[drawn[:WATCHED]], random, columns)[""])
        first, limit = act(cifar.clean.losses[reference], seen.losses[drawn], random)
        acted.append(first)
        limits.append(limit)
        losses.append(float(seen.losses[drawn].mean()))
    print(f"  {name}: loss {np.mean(losses):.3f}, promised {min(limits):.3f} to {max(limits):.3f}")
    for kind, values in (("warn", warned), ("act", acted)):
        count = sum(math.isfinite(value) for value in values)
        print(f"    {kind}: {share(count, len(values))}, after {shown(values)}", flush=True)


def real(options: argparse.Namespace) -> None:
    """Print how two shifts that happen in service are told."""
    cifar = Cifar(options.data, options.work)
    print("\nCIFAR-10, trained on PNG, sent as JPEG at Pillow's default quality")
    _print_shift(cifar, "saved as JPEG", cifar.changed("saved", save_as_jpeg, 1), options)
    model = street_model(options.data, options.work)
    day, dusk = [
        kept(options.work / f"streets {light}.npz", partial(_streets, model, options.data, light))
        for light in ("day", "dusk")
    ]
    half = len(day.losses) // 2
    print(f"CamVid, {half} frames by day are the reference, {len(day.losses) - half} come first, "
          f"then {len(dusk.losses)} at dusk in order; loss {day.losses.mean():.3f} by day, "
          f"{dusk.losses.mean():.3f} at dusk")  # fmt: skip
    found: dict[str, list[float]] = {}
    limits = []
    for stream in range(options.streams):
        random = np.random.default_rng([options.seed, 4, stream])
        order = random.permutation(len(day.losses))
        before, after = order[:half], order[half:]
        stream_ = np.concatenate([day.values[after], dusk.values])
        firsts = warnings(day.values[before], stream_, random, day.sets())
        losses = np.concatenate([day.losses[after], dusk.losses])
        firsts["act"], limit = act(day.losses[before], losses, random)
        limits.append(limit)
        for name, first in firsts.items():
            found.setdefault(name, []).append(first - len(after))
    print(f"  loss promised {min(limits):.3f} to {max(limits):.3f}")
    for name, values in found.items():
        early = sum(value < 0 for value in values)
        print(f"  {name}: by day {share(early, len(values))} alarm; at dusk after {shown(values)}")


def _streets(model: ServedModel, data: Path, light: str) -> Seen:
    is_dusk = light == "dusk"
    frames = street_frames(data, ["train", "val", "test"][not is_dusk :], is_dusk=is_dusk)
    return see(model, [pixels for pixels, _ in frames], [truth for _, truth in frames])


def others(options: argparse.Namespace) -> None:
    """Print false alarms and delays of other tools on the same streams."""
    tools = {"evidently": options.evidently, "dataeval": options.dataeval}
    pythons = {name: python for name, python in tools.items() if python is not None}
    compare(Cifar(options.data, options.work), options, pythons)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "delays": delays,
    "corruptions": corruptions,
    "harmless": harmless,
    "real": real,
    "others": others,
}


def main() -> None:
    """Run the measurements that the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=PARTS, default=["delays"], help="what to run")
    parser.add_argument("--streams", type=int, default=40, help="clean and shifted streams")
    parser.add_argument("--length", type=int, default=20_000, help="pictures of a clean stream")
    parser.add_argument("--data", type=Path, help="the folder that holds cifar10, camvid, weights")
    parser.add_argument(
        "--work",
        type=Path,
        help="where what takes long is kept for a next call; delete it after a change of code",
    )
    parser.add_argument("--repeats", type=int, default=7, help="corrupted streams of each kind")
    parser.add_argument("--evidently", type=Path, help="the Python that has Evidently")
    parser.add_argument("--dataeval", type=Path, help="the Python that has DataEval")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn")
    options = parser.parse_args()
    if options.data is None and options.part != ["delays"]:
        parser.error("--data is missing: the folder that holds cifar10, camvid and weights")
    with tempfile.TemporaryDirectory() as folder:
        options.work = options.work or Path(folder)
        options.work.mkdir(parents=True, exist_ok=True)
        for part in options.part:
            PARTS[part](options)


if __name__ == "__main__":
    main()
