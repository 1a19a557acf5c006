import pytest

from regrow.errors import BadInput
from regrow.prune.search.settings import Search


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"minutes": None, "candidates": None},
            "search needs an end: give search.minutes or search.candidates",
        ),
        ({"minutes": 0.0}, "search.minutes is 0.0, it must be > 0"),
        ({"minutes": float("nan")}, "search.minutes is nan, it must be > 0"),
        ({"candidates": 0}, "search.candidates is 0, it must be at least 1"),
        ({"minutes": 1.0, "num_images": 0}, "search.num_images is 0 and search.num_batches 8"),
        (
            {"candidates": 9, "trials": 1},
            "search.trials is 1; give 2 or more, to compare",
        ),
        ({"candidates": 9, "trials": -2}, "search.trials is -2; give 2 or more"),
        ({"candidates": 9, "trials": 10}, "search.trials 10 is more than search.candidates 9, of"),
        ({"candidates": 9, "trial_steps": 0}, "search.trial_steps is 0, it must be at least 1"),
        ({"minutes": 1.0, "num_batches": 0}, "search.num_batches 0; both must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(options, said):
    with pytest.raises(BadInput, match=said):
        Search(**options)
