"""The reference of the served network: what its embeddings and attributions are compared with.

A third of the independent pictures makes the means of embeddings; the scores of the others are the
reference. Pictures that helped to make a mean lie nearer to it than new ones ever do: clean traffic
would look changed beside them. Attributions are compared with no mean, so all are the reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from regrow.errors import BadInput
from regrow.logs import log
from regrow.monitor.alarms.shift import FEWEST
from regrow.monitor.bias.intervals import num_independent
from regrow.monitor.draws import key_of
from regrow.monitor.files.arrays import read_arrays, write_arrays
from regrow.monitor.network.attribution_drift import (
    AttributionReference,
    attribution_scores,
    explanations,
)
from regrow.monitor.network.attributions import CELLS, HOURLY, NUM_RUNS, explain
from regrow.monitor.network.embeddings import EmbeddingScores, fit_embeddings
from regrow.monitor.network.sample import Sample, as_served
from regrow.monitor.network.served import Network
from regrow.monitor.network.shapley import design
from regrow.monitor.network.values import predicted_class
from regrow.text import plural

ARRAYS = "network.npz"
FIT_SHARE = 3  # one group in so many makes the means
TURNED_OFF = "turned off by --attributions 0"


@dataclass(frozen=True, slots=True)
class NetworkReference:
    """What the served network is compared with.

    Args:
        sha256: The hash of its file in the monitor's folder.
        embeddings: What makes scores of embeddings; None where they are not watched.
        attributions: Those of the reference; None likewise.
        independent: How many independent pictures the reference has of each score.
        reasons: Why `embeddings` or `attributions` are not watched.
        num_explained: How many pictures of an hour have their attributions computed at most, which
            the reference took five minutes for; None where that is not known.
    """

    sha256: str
    embeddings: EmbeddingScores | None
    attributions: AttributionReference | None
    independent: Mapping[str, int]
    reasons: Mapping[str, str]
    num_explained: int | None = None

    def analysis(self) -> dict[str, Any]:
        """Return the part of SageMaker's `analysis.json`; empty where there are no attributions."""
        own = self.attributions
        if own is None:
            return {}
        return {"explanations": explanations(own.sizes, own.expected)}

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the arrays to a folder, and return the rest as plain data."""
        parts = [own for own in (self.embeddings, self.attributions) if own is not None]
        arrays = {name: array for own in parts for name, array in own.arrays().items()}
        return {
            "sha256": self.sha256,
            "arrays_sha256": write_arrays(folder / ARRAYS, arrays),
            "embeddings": self.embeddings is not None,
            "attributions": self.attributions is not None,
            "independent": dict(self.independent),
            "reasons": dict(self.reasons),
            "num_explained": self.num_explained,
        }

    @classmethod
    def read(cls, folder: Path, about: Mapping[str, Any]) -> "NetworkReference":
        """Read the arrays from a folder.

        Args:
            folder: The folder.
            about: The rest, as `write` returned it.

        Raises:
            BadInput: If the arrays are not those that were written.
            KeyError: If the rest is incomplete.
            ValueError: If it is damaged.
        """
        arrays = read_arrays(folder / ARRAYS, str(about["arrays_sha256"]))
        most = about.get("num_explained")
        return cls(
            str(about["sha256"]),
            EmbeddingScores.from_arrays(arrays) if about["embeddings"] else None,
            AttributionReference.from_arrays(arrays) if about["attributions"] else None,
            {str(name): max(int(count), 1) for name, count in about["independent"].items()},
            {str(name): str(reason) for name, reason in about["reasons"].items()},
            None if most is None else int(most),
        )


class NetworkBuilder:
    """Collects what the served network makes of a reference, picture by picture.

    Args:
        network: The network.
        num_explained: Largest number of pictures whose attributions are computed.
    """

    def __init__(self, network: Network, num_explained: int) -> None:
        self.network = network
        self._sample = Sample(network.size, num_explained)
        self._groups: list[str] = []
        self._embeddings: list[np.ndarray] = []
        self._labels: list[int] = []
        self._num_hourly: int | None = None

    def add(self, name: str, pixels: np.ndarray, group: str) -> None:
        """Add a picture.

        Args:
            name: Its name.
            pixels: The picture, uint8 RGB (h, w, 3).
            group: What it depends on others of.
        """
        self._sample.offer(name, len(self._groups), pixels)
        self._groups.append(group)
        if self.network.has_embedding:
            image = as_served(pixels, self.network.size)
            embedding, outputs = self.network.embed(image[None])
            self._embeddings.append(embedding[0])
            label = predicted_class(self.network.kind, outputs, self.network.num_classes)
            self._labels.append(label)

    def build(self) -> tuple[NetworkReference, dict[str, np.ndarray]]:
        """Return the reference, and the scores of its pictures by name, ascending.

        What cannot be watched is left out, and told.
        """
        rows: dict[str, list[float]] = {}
        independent: dict[str, int] = {}
        reasons: dict[str, str] = {}
        embeddings = attributions = None
        try:
            embeddings, found, count = self._embedded()
            rows |= found
            independent |= dict.fromkeys(found, count)
        except BadInput as error:
            reasons["embeddings"] = str(error)
        try:
            attributions, found, count = self._explained()
            rows |= found
            independent |= dict.fromkeys(found, count)
        except BadInput as error:
            reasons["attributions"] = str(error)
        for name, reason in reasons.items():
            if reason != TURNED_OFF:
                log.warning(f"{name} are not watched: {reason}")
        scores = {name: np.sort(np.array(values)) for name, values in rows.items()}
        sha256 = self.network.sha256
        most = None if attributions is None else self._num_hourly
        made = NetworkReference(sha256, embeddings, attributions, independent, reasons, most)
        return made, scores

    def _embedded(self) -> tuple[EmbeddingScores, dict[str, list[float]], int]:
        if not self.network.has_embedding:
            raise BadInput("no features of a known kind are found in the network's graph")
        is_usable = np.array([bool(np.isfinite(own).all()) for own in self._embeddings], bool)
        if not is_usable.any():
            raise BadInput("the network gives no embedding that is finite")
        vectors = np.stack(self._embeddings)[is_usable]
        labels = np.array(self._labels)[is_usable]
        groups = [self._groups[place] for place in np.flatnonzero(is_usable)]
        is_fitted, count = _split(groups)
        seed = int(self.network.sha256[:16], 16)
        made = fit_embeddings(vectors[is_fitted], labels[is_fitted], self.network.num_classes, seed)
        ranked = zip(vectors[~is_fitted], labels[~is_fitted], strict=True)
        return made, _columns([made.of(own, int(label)) for own, label in ranked]), count

    def _explained(self) -> tuple[AttributionReference, dict[str, list[float]], int]:
        if not self._sample.count:
            raise BadInput(TURNED_OFF)
        _count([self._groups[place] for place, _ in self._sample])  # costs nothing; the rest does
        coalitions = design(len(CELLS), NUM_RUNS, int(self.network.sha256[:16], 16))
        found, groups, start = [], [], monotonic()
        pictures = explain(self.network, self._sample, self._sample.count, coalitions)
        for number, (place, own) in enumerate(pictures, 1):
            self._num_hourly = _num_hourly((monotonic() - start) / number)
            if own is not None:
                found.append(own)
                groups.append(self._groups[place])
        count = _count(groups)
        if self._num_hourly is not None and self._num_hourly < self._sample.count:
            log.info(
                f"attributions of {plural(self._num_hourly, 'picture')} take about {HOURLY:g} "
                "minutes; runs compute no more of an hour"
            )
        made = AttributionReference.of(found, coalitions)
        return made, _columns([attribution_scores(own.values) for own in found]), count


def _num_hourly(seconds: float) -> int:
    """Return the pictures of an hour whose attributions may be computed, at so many seconds each.

    Raises:
        BadInput: If one of them takes too long already.
    """
    if seconds > 60 * HOURLY:
        raise BadInput(
            f"those of one picture take {seconds / 60:.1f} minutes, and those of an hour may take "
            f"{HOURLY:g}"
        )
    return int(60 * HOURLY / max(seconds, 1e-3))


def _split(groups: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return which pictures make the means, by the hashes of groups, and how many groups are left.

    Raises:
        BadInput: If too few are left to see a change by.
    """
    names = sorted({*groups}, key=lambda name: key_of(f"fit {name}"))
    fitted = {*names[: len(names) // FIT_SHARE]}
    is_fitted = np.array([name in fitted for name in groups], dtype=bool)
    left = [name for name in groups if name not in fitted]
    return is_fitted, _count(left, " besides the third that makes the means")


def _count(groups: Sequence[str], more: str = "") -> int:
    """Return how many independent pictures they are worth.

    Args:
        groups: The group of each.
        more: What besides an error says of them.

    Raises:
        BadInput: If they are too few to see a change by.
    """
    count = num_independent(groups)
    if count < FEWEST:
        raise BadInput(
            f"they are known of {plural(count, 'independent picture')}{more}; {FEWEST} are needed "
            "to see a change by"
        )
    return count


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return the finite values of each score, where there are enough to see a change by."""
    found = {name: [row[name] for row in rows if np.isfinite(row[name])] for name in rows[0]}
    return {name: values for name, values in found.items() if len(values) >= FEWEST}
