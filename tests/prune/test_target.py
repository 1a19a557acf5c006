import pytest

from regrow.errors import BadInput
from regrow.prune.target import Target


def test_half_the_macs_are_the_target_where_none_is_named():
    assert Target().shares() == {"macs": 0.5}
    assert Target(latency=0.8).shares() == {"latency": 0.8}


def test_shares_out_of_range_are_bad_input():
    with pytest.raises(BadInput, match=r"target\.params is 1\.5"):
        Target(params=1.5)
