"""Which settings a resumed run may change."""

from typing import Any

import pytest

from regrow.errors import BadInput
from regrow.training.resume import refuse_changes

OLD: dict[str, Any] = {"data.size": [8, 8], "data.root": "a", "fit.epochs": 2}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"data.root": "b", "data.num_workers": 4},
        # Options that the run did not have yet, and that are off.
        {"data.stratify": False, "data.balance": None, "task.class_weights": None},
    ],
)
def test_what_leaves_the_weights_as_they_are_may_change(more: dict[str, Any]) -> None:
    refuse_changes(OLD, OLD | more)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fit.epochs", 3),
        ("data.stratify", True),
        ("data.balance", 0.5),
        ("task.class_weights", "balanced"),
    ],
)
def test_what_changes_the_weights_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BadInput, match=f"cannot change {name} from .* to {value}; keep it"):
        refuse_changes(OLD, OLD | {name: value})
    with pytest.raises(BadInput, match=f"cannot change {name} from {value} to"):
        refuse_changes(OLD | {name: value}, OLD | {"data.stratify": False})


def test_an_option_that_was_off_may_not_be_switched_on() -> None:
    with pytest.raises(BadInput, match=r"cannot change data\.stratify from False to True"):
        refuse_changes(OLD | {"data.stratify": False}, OLD | {"data.stratify": True})
