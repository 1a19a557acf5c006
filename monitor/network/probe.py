"""The probe of an hour: a sample of its pictures is run through the served network again.

Captures hold pictures and answers, and nothing of what lies between them. A bounded sample shows a
change as well as all pictures would, by and by, and costs the same for a million of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.monitor.files.violations import DESCRIPTIVE
from regrow.monitor.network.attribution_drift import (
    EXPLAINED,
    LABEL,
    LEAST_NDCG,
    attribution_scores,
    explanations,
    sizes_of,
)
from regrow.monitor.network.attributions import HOURLY, Attribution, explain
from regrow.monitor.network.embeddings import DISTANCE, EMBEDDED
from regrow.monitor.network.reference import NetworkReference
from regrow.monitor.network.sample import Sample
from regrow.monitor.network.served import NETWORK, Network
from regrow.monitor.network.values import predicted_class

NO_PICTURES = "no pictures were captured"
NOT_ASKED = "the network is not run"


@dataclass(frozen=True, slots=True)
class Findings:
    """What the network made of a sample.

    Args:
        scores: Each score of each picture, NaN where it has none, (n,).
        places: Where the pictures stand among all of the hour, (n,).
        embeddings: For the report: of how many pictures they are, or why of none.
        attribution: For the report: likewise, and how they moved.
        explanations: What SageMaker's `analysis.json` holds of them; None where there are none.
    """

    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    places: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    embeddings: Mapping[str, Any] = field(default_factory=lambda: _told(0, 0, NOT_ASKED))
    attribution: Mapping[str, Any] = field(default_factory=lambda: _told(0, 0, NOT_ASKED))
    explanations: Mapping[str, Any] | None = None

    def analysis(self) -> dict[str, Any]:
        """Return the part of the hour's `analysis.json`; empty where there are no attributions."""
        return {} if self.explanations is None else {"explanations": self.explanations}

    def violations(self) -> list[dict[str, str]]:
        """Return what SageMaker's monitor of attributions calls a violation; it is no alarm."""
        found = self.attribution.get("ndcg")
        if found is None or found >= LEAST_NDCG:
            return []
        words = f"Feature attribution drift {found:.4g} exceeds threshold {LEAST_NDCG}"
        return [
            {
                "label": LABEL,
                "metric_name": "shap",
                "constraint_check_type": "feature_attribution_drift_check",
                "description": f"{words} ({DESCRIPTIVE})",
            }
        ]


def _told(num_pictures: int, num_usable: int, reason: str = "") -> dict[str, Any]:
    if not num_pictures and not reason:
        reason = NO_PICTURES
    return {
        "num_pictures": num_pictures,
        "num_unusable": num_pictures - num_usable,
        "reason": reason,
    }


class Probe:
    """The served network, and how many pictures of an hour are run through it.

    Args:
        network: The network.
        reference: What is compared with.
        num_embedded: Largest number of pictures that are embedded.
        num_explained: Largest number of pictures whose attributions are computed; the reference
            says how many take five minutes, and no more are.
    """

    def __init__(
        self, network: Network, reference: NetworkReference, num_embedded: int, num_explained: int
    ) -> None:
        self.network, self.reference = network, reference
        self.num_embedded = num_embedded if reference.embeddings is not None else 0
        most = reference.num_explained
        self.num_explained = num_explained if most is None else min(num_explained, most)
        self._is_bounded = self.num_explained < num_explained
        if reference.attributions is None:
            self.num_explained = 0
        self._reasons = dict(reference.reasons)
        for name, count in (("embeddings", num_embedded), ("attributions", num_explained)):
            if not count:
                self._reasons.setdefault(name, f"turned off by --{name} 0")

    def sample(self) -> Sample:
        """Return an empty sample for the pictures of an hour."""
        return Sample(self.network.size, max(self.num_embedded, self.num_explained))

    def look(self, sample: Sample) -> Findings:
        """Run the pictures of a sample through the network.

        Args:
            sample: The pictures, of which the first ones are embedded or explained.
        """
        rows = {place: self._embedded(image) for place, image in islice(sample, self.num_embedded)}
        explained = list[Attribution]()
        for place, own in self._explained(sample):
            scores = rows.setdefault(place, {})
            if own is not None:
                explained.append(own)
                scores |= attribution_scores(own.values)
        names = [name for name in (*EMBEDDED, *EXPLAINED) if name in self.reference.independent]
        return Findings(
            {name: np.array([row.get(name, np.nan) for row in rows.values()]) for name in names},
            np.array([*rows], dtype=np.int64),
            self._told_of_embeddings([*rows.values()]),
            self._told_of_attributions(explained, len(rows)),
            explanations(*sizes_of(explained)) if explained else None,
        )

    def _embedded(self, image: np.ndarray) -> dict[str, float]:
        made = self.reference.embeddings
        if made is None:
            return {}
        embedding, outputs = self.network.embed(image[None])
        label = predicted_class(self.network.kind, outputs, self.network.num_classes)
        return made.of(embedding[0], label)

    def _explained(self, sample: Sample) -> Iterable[tuple[int, Attribution | None]]:
        made = self.reference.attributions
        if made is None:
            return ()
        return explain(self.network, sample, self.num_explained, made.coalitions)

    def _told_of_embeddings(self, rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
        count = min(len(rows), self.num_embedded)
        usable = sum(bool(np.isfinite(row.get(DISTANCE, np.nan))) for row in rows)
        return _told(count, usable, self._reasons.get("embeddings", ""))

    def _told_of_attributions(self, found: Sequence[Attribution], count: int) -> dict[str, Any]:
        made = self.reference.attributions
        reason = self._reasons.get("attributions", "")
        told = _told(min(count, self.num_explained), len(found), reason)
        if self._is_bounded and told["num_pictures"] == self.num_explained:
            told["bound"] = f"more would take over {HOURLY:g} minutes of every hour"
        return told if made is None or not found else told | made.compare(found)


def open_probe(
    folder: Path,
    open_network: Callable[[Path], Network],
    reference: NetworkReference,
    num_embedded: int,
    num_explained: int,
) -> Probe | None:
    """Return what runs pictures through the network of a baseline; None where none are to be run.

    Args:
        folder: The monitor's folder.
        open_network: Opens the file of the network.
        reference: What is compared with.
        num_embedded: Largest number of pictures that are embedded.
        num_explained: Largest number of pictures whose attributions are computed.

    Raises:
        BadInput: If the file is not there, or another one.
    """
    if not num_embedded and not num_explained:
        return None
    file = folder / NETWORK
    if not file.is_file() or file_hash(file) != reference.sha256:
        raise BadInput(
            f"{file}: is not that of this baseline; make the baseline again, or do without it: "
            "--embeddings 0 --attributions 0"
        )
    return Probe(open_network(file), reference, num_embedded, num_explained)
