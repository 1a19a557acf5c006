"""What the monitor asks of a network, asked of the one that tests work by hand."""

import numpy as np
from networks import LinearNetwork

from regrow.monitor.network.served import Network


def test_the_network_of_the_tests_is_one() -> None:
    assert isinstance(LinearNetwork(np.zeros(16)), Network)
    assert not isinstance(np.zeros(16), Network)
