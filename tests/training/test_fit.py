"""Settings of a training out of range are refused by name, and the rest is taken as it is."""

import math
from typing import Any

import pytest
import torch

from regrow.errors import BadInput
from regrow.training.fit import Fit


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epochs": -1}, "epochs is -1 and images 8; neither may be < 0"),
        ({"images": -2}, "epochs is 10 and images -2; neither may be < 0"),
        ({"patience": 0}, "patience is 0, it must be at least 1, or null"),
        ({"clip": 0.0}, "clip is 0.0, it must be > 0, or null for none"),
        ({"clip": math.nan}, "clip is nan, it must be > 0, or null for none"),
        ({"ema": 1.0}, "ema is 1.0, it must lie in [0, 1), or be null for none"),
        ({"ema": -0.1}, "ema is -0.1, it must lie in [0, 1), or be null for none"),
        ({"ema": math.nan}, "ema is nan, it must lie in [0, 1), or be null for none"),
        ({"devices": " 513 "}, "fit.devices is 513, it may be 512 at most"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as told:
        Fit(**options)
    assert str(told.value) == said


@pytest.mark.parametrize(
    "options",
    [{"epochs": 0, "images": 0}, {"patience": 1}, {"clip": 1e-9}, {"ema": 0.0}, {"ema": 0.9999}],
)
def test_the_ends_of_each_range_are_accepted(options: dict[str, Any]) -> None:
    fit = Fit(**options)
    assert {name: getattr(fit, name) for name in options} == options


def test_a_network_is_where_it_was_trained() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert Fit().device.type == expected
    assert Fit(accelerator="cpu").device == torch.device("cpu")


def test_a_process_of_several_is_on_the_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    for accelerator in ("auto", "gpu", "cuda"):
        assert Fit(accelerator=accelerator).device == torch.device("cuda", 3)
    assert Fit(accelerator="cpu").device == torch.device("cpu")
    monkeypatch.delenv("LOCAL_RANK")
    assert Fit().device == torch.device("cuda", 0)


def test_a_chosen_precision_leaves_the_weights_before_training() -> None:
    assert Fit().dtype == torch.float32
    assert Fit(precision="16-true").dtype is None
