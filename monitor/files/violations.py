"""The files of violations, under both names that SageMaker has for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regrow.errors import BadInput
from regrow.files import SMALL, read_json, write_json
from regrow.plain import MISSHAPEN

# What the SDK reads, and what the pages of the contract say.
NAMES = ("constraint_violations.json", "constraints_violations.json")
CLARIFY = "clarify"  # the folder of the violations that Clarify's monitors find
DESCRIPTIVE = "descriptive: one hour compared with the reference, no alarm"


@dataclass(frozen=True, slots=True)
class Violation:
    """A constraint that is not met.

    Args:
        feature: The feature.
        check: SageMaker's type of the check.
        description: What was found, and what was asked.
        is_descriptive: Whether it only describes, and is no reason to act.
    """

    feature: str
    check: str
    description: str
    is_descriptive: bool = False

    def to_dict(self) -> dict[str, str]:
        """Return the violation as SageMaker's files have it."""
        note = f" ({DESCRIPTIVE})" if self.is_descriptive else ""
        return {
            "feature_name": self.feature,
            "constraint_check_type": self.check,
            "description": f"{self.description}{note}",
        }


def write_violations(folder: Path, violations: Sequence[Violation]) -> None:
    """Write the violations under both names."""
    for name in NAMES:
        write_json(folder / name, {"violations": [own.to_dict() for own in violations]}, indent=2)


def read_violations(folder: Path) -> list[Violation]:
    """Read the violations of a folder, under either name.

    Raises:
        BadInput: If there is no such file, or it holds something else.
    """
    file = next((folder / name for name in NAMES if (folder / name).is_file()), folder / NAMES[0])
    content = read_json(file, SMALL)
    try:
        return [
            Violation(
                str(own["feature_name"]),
                str(own["constraint_check_type"]),
                str(own["description"]).removesuffix(f" ({DESCRIPTIVE})"),
                str(own["description"]).endswith(f"({DESCRIPTIVE})"),
            )
            for own in content["violations"]
        ]
    except MISSHAPEN as error:
        raise BadInput(f"{file}: holds no list of violations") from error


def write_clarify_violations(folder: Path, violations: Sequence[Mapping[str, str]]) -> None:
    """Write what Clarify's monitors of bias and attributions find, under both names.

    They have another form than those of the features, and SageMaker has a job of its own for each;
    so they lie in the folder `clarify` below.

    Source: Amazon SageMaker Developer Guide, "Bias Drift Violations" and "Feature Attribution
    Drift Violations".

    Args:
        folder: The folder above `clarify`.
        violations: Each with `constraint_check_type`, `metric_name`, `description`, and what it is
            about: `facet` and `facet_value`, or `label`.
    """
    for name in NAMES:
        content = {"version": "1.0", "violations": [dict(own) for own in violations]}
        write_json(folder / CLARIFY / name, content, indent=2)
