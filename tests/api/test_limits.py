"""Numbers that would take the machine are refused by name, before anything is allocated."""

from collections.abc import Callable
from typing import Any

import pytest

from regrow.data.formats import ImageFolder
from regrow.data.module import GrowingData
from regrow.data.sample import DigitScenes
from regrow.errors import BadInput
from regrow.limits import refuse_beyond
from regrow.training.fit import Fit


def _data(**values: Any) -> GrowingData:
    return GrowingData(ImageFolder(), **values)


def _scenes(**values: Any) -> DigitScenes:
    return DigitScenes("boxes", **values)


@pytest.mark.parametrize(
    ("make", "values", "said"),
    [
        (_data, {"num_workers": 10**6}, "data.num_workers is 1,000,000, it may be 512 at most"),
        (_data, {"batch_size": 10**9}, "data.batch_size is 1,000,000,000, it may be 131,072"),
        (_data, {"size": (8, 10**6)}, "data.size is 1,000,000, it may be 16,384 at most"),
        (Fit, {"devices": 10**6}, "fit.devices is 1,000,000, it may be 512 at most"),
        (Fit, {"devices": "1000000"}, "fit.devices is 1,000,000, it may be 512 at most"),
        (Fit, {"epochs": 10**12}, "fit.epochs is 1,000,000,000,000, it may be 1,000,000"),
        (Fit, {"images": 10**9}, "fit.images is 1,000,000,000, it may be 10,000"),
        (_scenes, {"scene_size": 10**6}, "scene_size is 1,000,000"),
        (_scenes, {"num_test": 10**9}, "num_test is 1,000,000,000"),
    ],
)
def test_what_would_take_the_machine_is_refused(
    make: Callable[..., Any], values: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput) as told:
        make(**values)
    assert said in str(told.value)


def test_the_limit_itself_is_accepted() -> None:
    refuse_beyond(3, a__b=3, c=None, d=-(10**9))
    assert _data(num_workers=512, size=(16384, 1), batch_size=131072).num_workers == 512
    for devices in ("auto", "-1", "[0, 1]", 8):
        assert Fit(devices=devices).devices == devices
