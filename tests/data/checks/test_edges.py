"""How far what is drawn may stick out of an image, worked by hand."""

import numpy as np
import pytest

from regrow.data.checks.edges import hair


@pytest.mark.parametrize(
    ("side", "expected"),
    [(4, 0.5), (10, 0.5), (16, 0.8), (20, 1.0), (50, 1.0), (100, 2.0), (1000, 20.0)],
)
def test_a_hair_is_two_percent_or_a_pixel_where_that_is_little(side: int, expected: float) -> None:
    assert hair(np.array([side]))[0] == pytest.approx(expected)
