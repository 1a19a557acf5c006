"""Settings of data out of range are refused in a line that names them; the ends are accepted."""

from typing import Any

import pytest

from regrow.data.checks.settings import refuse_decoding, refuse_settings
from regrow.errors import BadInput


def check(**changed: Any) -> None:
    """Check settings that are all in range, but for the changed ones."""
    sound = {
        "size": (8, 8),
        "batch_size": 4,
        "shares": (0.1, 0.1),
        "num_workers": 0,
        "cache_bytes": 0,
        "max_images": None,
        "balance": None,
    }
    refuse_settings(**{**sound, **changed})  # type: ignore[arg-type]


POSITIVE = "data.batch_size is {} and data.size {}; both must be > 0"
SHARES = "data.val_share {} and data.test_share {} must leave something to train on"
WORKERS = "data.num_workers is {} and data.cache_bytes {}; both must be 0 or more"
BALANCE = "data.balance is {}, it must lie in (0, 1], or be null"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 0}, POSITIVE.format(0, (8, 8))),
        ({"size": (0, 8)}, POSITIVE.format(4, (0, 8))),
        ({"size": (8, -1)}, POSITIVE.format(4, (8, -1))),
        ({"shares": (0.5, 0.5)}, SHARES.format(0.5, 0.5)),
        ({"shares": (-0.1, 0.3)}, SHARES.format(-0.1, 0.3)),
        ({"shares": (0.3, -0.1)}, SHARES.format(0.3, -0.1)),
        ({"shares": (float("nan"), 0.1)}, SHARES.format("nan", 0.1)),
        ({"batch_size": 2**17 + 1}, "data.batch_size is 131,073, it may be 131,072 at most"),
        ({"size": (8, 2**14 + 1)}, "data.size is 16,385, it may be 16,384 at most"),
        ({"size": (2**14 + 1, 8)}, "data.size is 16,385, it may be 16,384 at most"),
        ({"num_workers": 513}, "data.num_workers is 513, it may be 512 at most"),
        ({"num_workers": -1}, WORKERS.format(-1, 0)),
        ({"cache_bytes": -5}, WORKERS.format(0, -5)),
        ({"max_images": 0}, "data.max_images is 0, it must be at least 1, or null"),
        ({"balance": 0.0}, BALANCE.format(0.0)),
        ({"balance": 1.01}, BALANCE.format(1.01)),
        ({"balance": float("nan")}, BALANCE.format("nan")),
    ],
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as told:
        check(**changed)
    assert str(told.value) == said


def test_the_ends_of_each_range_are_accepted() -> None:
    check()
    check(size=(1, 2**14), batch_size=1, shares=(0.0, 0.0), max_images=1, balance=1.0)
    check(batch_size=2**17, shares=(0.0, 0.99), num_workers=512, balance=1e-6)


@pytest.mark.parametrize(
    "grey", [(-1, 9), (9, 9), (9, 3), (0, 65536)], ids=["below", "empty", "turned", "above"]
)
def test_ranges_of_grey_that_no_image_has_are_refused(grey: tuple[int, int]) -> None:
    with pytest.raises(BadInput) as told:
        refuse_decoding(1, grey)
    assert str(told.value) == (
        f"data.grey_range is [{grey[0]}, {grey[1]}]; it must be two values of 0 to 65535, the "
        "lower one first"
    )


def test_images_without_pixels_are_refused() -> None:
    with pytest.raises(BadInput, match=r"^data\.max_pixels is 0, it must be at least 1$"):
        refuse_decoding(0, None)
    refuse_decoding(1, None)
    refuse_decoding(1, (0, 65535))
    refuse_decoding(1, (65534, 65535))
