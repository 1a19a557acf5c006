"""Limits of what a run of a monitor may be told: what lies beyond is named."""

import pytest

from regrow.errors import BadInput
from regrow.pipelines.monitoring.limits import MAX_SAMPLE, refuse_group, refuse_sample


def test_what_lies_beyond_is_named() -> None:
    refuse_sample(0, MAX_SAMPLE)
    refuse_group(1)
    for counts, name in (((-1, 0), "embeddings is -1"), ((0, MAX_SAMPLE + 1), "attributions is")):
        with pytest.raises(BadInput, match=name):
            refuse_sample(*counts)
    with pytest.raises(BadInput, match="smallest_group is 0"):
        refuse_group(0)
