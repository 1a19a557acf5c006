"""The file `constraints.json`: what is asked of the features, for a person to edit.

Source: Amazon SageMaker Developer Guide, "Schema for Constraints (constraints.json file)". The old
spellings `monitoring_config_overrides`, `enable_comparisons` and `min_domain_mass` are read too.
What pictures need besides stands under `image_constraints`, which is regrow's own.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regrow.errors import BadInput
from regrow.files import SMALL, read_json
from regrow.monitor.summary import Summary

CONSTRAINTS = "constraints.json"
KINDS = ("Integral", "Fractional", "String", "Unknown")
SWITCH = {"Enabled": True, "Disabled": False}
IMAGES = ("max_undecodable", "max_blank", "min_side", "max_side")
NUMERIC, CATEGORICAL = ("Robust", "Simple"), ("LInfinity", "ChiSquared")


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far a distribution may lie from that of the reference.

    Args:
        is_on: Whether distributions are compared.
        threshold: Largest distance of numbers, in [0, 1].
        method: `Robust` allows for few values, `Simple` does not.
        categorical_threshold: Largest distance of categories; for `ChiSquared` the smallest
            p-value.
        categorical_method: `LInfinity` or `ChiSquared`.
    """

    is_on: bool = True
    threshold: float = 0.1
    method: str = "Robust"
    categorical_threshold: float = 0.1
    categorical_method: str = "LInfinity"


@dataclass(frozen=True, slots=True)
class Constraint:
    """What is asked of one feature.

    Args:
        name: The feature.
        kind: SageMaker's `inferred_type`.
        completeness: Least share of pictures that have a value.
        is_non_negative: Whether numbers must be at least 0.
        domain: The texts that may occur; None for any.
        domain_share: Least share of values that are in the domain.
        comparison: How its distribution is compared; None as the file says for all.
    """

    name: str
    kind: str
    completeness: float = 1.0
    is_non_negative: bool = False
    domain: tuple[str, ...] | None = None
    domain_share: float | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Constraints:
    """What is asked of all features.

    Args:
        features: The constraint of each feature.
        is_on: Whether anything is checked.
        emits_metrics: Whether CloudWatch metrics are written.
        type_share: Least share of values that have the type of the reference.
        domain_share: Least share of values that are in the domain, where a feature has no own.
        comparison: How distributions are compared.
        max_corrupt: Largest share of pictures that cannot be decoded.
        max_blank: Largest share of pictures that are blank.
        sides: Least and largest width and height, in pixels; None for any.
    """

    features: tuple[Constraint, ...]
    is_on: bool = True
    emits_metrics: bool = True
    type_share: float = 1.0
    domain_share: float = 1.0
    comparison: Comparison = field(default_factory=Comparison)
    max_corrupt: float = 0.0
    max_blank: float = 0.0
    sides: tuple[int, int] | None = None

    @classmethod
    def suggested(
        cls, summary: Summary, required: frozenset[str], domains: Mapping[str, Collection[str]]
    ) -> "Constraints":
        """Return constraints that the reference itself meets.

        Args:
            summary: The features of the reference.
            required: Features that no picture lacks; others may be missing.
            domains: The texts that may occur, where more may than the reference shows.
        """
        made = []
        for name, own in summary.features.items():
            is_needed = name in required and own.num_missing == 0
            texts = {*own.texts.counts, *domains.get(name, ())}
            domain = tuple(sorted(texts)) if own.kind == "String" else None
            is_positive = own.kind in ("Integral", "Fractional") and own.numbers.low >= 0
            made.append(Constraint(name, own.kind, float(is_needed), is_positive, domain))
        sizes = [summary.features[n].numbers for n in ("width", "height") if n in summary.features]
        sides, blank = None, summary.features.get("blank")
        if sizes and all(own.count for own in sizes):
            low, high = min(own.low for own in sizes), max(own.high for own in sizes)
            sides = (max(1, int(low) // 2), int(high) * 2)
        share = blank.numbers.mean if blank is not None and blank.numbers.count else 0.0
        return cls(tuple(made), max_blank=min(1.0, 2 * share), sides=sides)

    @classmethod
    def read(cls, path: Path) -> "Constraints":
        """Read a file, in the spelling of now or of before.

        Raises:
            BadInput: If it cannot be read, or holds something else; the line names the key.
        """
        name = ""  # which is in the line already if the file cannot be read
        try:
            content = read_json(path, SMALL)
            name = f"{path}: "
            return _constraints(_mapping(content, "the file"))
        except BadInput as error:
            raise BadInput(
                f"{name}{error}; correct it, or make it again with scripts/monitor.py baseline"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {
            "version": 0,
            "features": [_feature_dict(own) for own in self.features],
            "monitoring_config": {
                "evaluate_constraints": _switched(self.is_on),
                "emit_metrics": _switched(self.emits_metrics),
                "datatype_check_threshold": self.type_share,
                "domain_content_threshold": self.domain_share,
                "distribution_constraints": _comparison_dict(self.comparison),
            },
            "image_constraints": {
                "max_undecodable": self.max_corrupt,
                "max_blank": self.max_blank,
                **({"min_side": self.sides[0], "max_side": self.sides[1]} if self.sides else {}),
            },
        }


def _feature_dict(own: Constraint) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": own.name,
        "inferred_type": own.kind,
        "completeness": own.completeness,
    }
    if own.kind in ("Integral", "Fractional"):
        made["num_constraints"] = {"is_non_negative": own.is_non_negative}
    if own.domain is not None:
        made["string_constraints"] = {"domains": list(own.domain)}
    overrides: dict[str, Any] = {}
    if own.comparison is not None:
        overrides["distribution_constraints"] = _comparison_dict(own.comparison)
    if own.domain_share is not None:
        overrides["domain_content_threshold"] = own.domain_share
    return made | ({"monitoringConfigOverrides": overrides} if overrides else {})


def _comparison_dict(own: Comparison) -> dict[str, Any]:
    return {
        "perform_comparison": _switched(own.is_on),
        "comparison_threshold": own.threshold,
        "comparison_method": own.method,
        "categorical_comparison_threshold": own.categorical_threshold,
        "categorical_drift_method": own.categorical_method,
    }


def _switched(is_on: bool) -> str:
    return "Enabled" if is_on else "Disabled"


def _constraints(content: Mapping[str, Any]) -> Constraints:
    config = _mapping(content.get("monitoring_config", {}), "monitoring_config")
    common = _comparison(config.get("distribution_constraints", {}), Comparison())
    given = content.get("features")
    if not isinstance(given, list):
        raise BadInput(f"features is {given!r}, it must be a list")
    features = tuple(_constraint(one, common) for one in given)
    names = [own.name for own in features]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"the feature {twice!r} is there twice")
    images = _mapping(content.get("image_constraints", {}), "image_constraints")
    odd = next((key for key in images if key not in IMAGES), None)
    if odd is not None:
        raise BadInput(f"image_constraints has {odd!r}, it may have {', '.join(IMAGES)}")
    sides = None
    if "min_side" in images or "max_side" in images:
        sides = (
            int(_number(images, "min_side", 1, 2**31)),
            int(_number(images, "max_side", 2**31, 2**31)),
        )
        if sides[0] > sides[1]:
            raise BadInput(f"min_side {sides[0]} is larger than max_side {sides[1]}")
    return Constraints(
        features,
        _switch(config, "evaluate_constraints", True),
        _switch(config, "emit_metrics", True),
        _number(config, "datatype_check_threshold", 1.0),
        _number(config, "domain_content_threshold", 1.0),
        common,
        _number(images, "max_undecodable", 0.0),
        _number(images, "max_blank", 0.0),
        sides,
    )


def _constraint(given: Any, common: Comparison) -> Constraint:
    own = _mapping(given, "a feature")
    name, kind = own.get("name"), own.get("inferred_type", "Unknown")
    if not isinstance(name, str) or not name:
        raise BadInput(f"a feature's name is {name!r}, it must be a text")
    if kind not in KINDS:
        raise BadInput(f"{name}: inferred_type is {kind!r}, it must be one of {', '.join(KINDS)}")
    texts = _mapping(own.get("string_constraints", {}), f"{name}: string_constraints")
    numbers = _mapping(own.get("num_constraints", {}), f"{name}: num_constraints")
    is_positive = numbers.get("is_non_negative", False)
    if not isinstance(is_positive, bool):
        raise BadInput(f"{name}: is_non_negative is {is_positive!r}, it must be true or false")
    domain = texts.get("domains")
    if domain is not None and not isinstance(domain, list):
        raise BadInput(f"{name}: domains is {domain!r}, it must be a list")
    # The old spelling stands in the string constraints, or beside them.
    old = texts.get("monitoring_config_overrides", own.get("monitoring_config_overrides", {}))
    overrides = _mapping(own.get("monitoringConfigOverrides", old), f"{name}: overrides")
    comparison, share = None, None
    if "distribution_constraints" in overrides:
        comparison = _comparison(overrides["distribution_constraints"], common)
    for key in ("domain_content_threshold", "min_domain_mass"):
        if key in overrides:
            share = _number(overrides, key, 1.0)
    return Constraint(
        name,
        kind,
        _number(own, "completeness", 0.0),
        is_positive,
        None if domain is None else tuple(map(str, domain)),
        share,
        comparison,
    )


def _comparison(given: Any, common: Comparison) -> Comparison:
    own = _mapping(given, "distribution_constraints")
    key = "enable_comparisons" if "enable_comparisons" in own else "perform_comparison"
    return Comparison(
        _switch(own, key, common.is_on),
        _number(own, "comparison_threshold", common.threshold),
        _choice(own, "comparison_method", common.method, NUMERIC),
        _number(own, "categorical_comparison_threshold", common.categorical_threshold),
        _choice(own, "categorical_drift_method", common.categorical_method, CATEGORICAL),
    )


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{name} is {str(value)[:80]!r}, it must be an object")
    return value


def _number(own: Mapping[str, Any], key: str, default: float, most: float = 1.0) -> float:
    value = own.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= most:
        raise BadInput(f"{key} is {str(value)[:80]!r}, it must lie in [0, {most:g}]")
    return float(value)


def _switch(own: Mapping[str, Any], key: str, default: bool) -> bool:
    value = own.get(key, default)
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value not in SWITCH:
        raise BadInput(f"{key} is {str(value)[:80]!r}, it must be Enabled or Disabled")
    return SWITCH[value]


def _choice(own: Mapping[str, Any], key: str, default: str, known: tuple[str, ...]) -> str:
    value = own.get(key, default)
    if value not in known:
        raise BadInput(f"{key} is {str(value)[:80]!r}, it must be one of {', '.join(known)}")
    return str(value)
