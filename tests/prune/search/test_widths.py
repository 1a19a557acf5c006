import itertools

import pytest

from regrow.errors import BadInput
from regrow.prune.search.settings import Memory, Search
from regrow.prune.search.widths import WidthSearch


def searching(space, scorer, candidates=40, seed=0, found=None, keep=None) -> WidthSearch:
    return WidthSearch(space, scorer, Search(candidates=candidates), Memory(seed, found, keep))


def test_it_finds_the_best_choice_of_a_small_space(make_space, bowl):
    space = make_space("residual")
    scorer = bowl(space, [0.7, 0.1])
    best = searching(space, scorer).best()
    choices = [c for c in itertools.product(*space.ladders) if space.fits(c)]
    # Those that leave no room under the ceiling.
    choices = [c for c in choices if space.filled(c, (0, 1)) == c == space.filled(c, (1, 0))]
    assert len(choices) > 5
    distances = [scorer(space.plan(c)).distance for c in choices]
    # FastNAS's choice may leave some room, and be better for it here.
    assert best.distance <= min(distances)
    assert best.is_legal


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["residual", "plain", "concat"])
def test_it_is_never_worse_than_the_minimax_choice_by_its_own_score(make_space, bowl, name, seed):
    space = make_space(name)
    ideal = [0.1 + 0.15 * ((seed + place) % 5) for place in range(len(space.ladders))]
    weights = [1.0 + (seed * place) % 3 for place in range(len(space.ladders))]
    for candidates in (1, 3, 12):
        search = searching(space, bowl(space, ideal, weights), candidates, seed)
        best = search.best()
        # The minimax choice by brute force, over the profile that the search has measured.
        drops = search.drops()
        choices = [c for c in itertools.product(*space.ladders) if space.fits(c)]
        least = min(max(d[n] for d, n in zip(drops, c, strict=True)) for c in choices)
        (own,) = [c for c in search.pool.candidates if c.origin == "minimax"]
        assert max(d[n] for d, n in zip(drops, own.counts, strict=True)) == least
        assert best.distance <= own.distance


def test_the_pool_begins_with_four_choices_and_goes_on_with_mutations(make_space, bowl):
    space = make_space("deep")
    search = searching(space, bowl(space, [0.9, 0.1, 0.1, 0.5, 0.5]), 14)
    search.best()
    origins = [candidate.origin for candidate in search.pool.candidates]
    assert origins[0] == "minimax"
    assert set(origins) <= {"minimax", "ranking", "knapsack", "uniform", "mutation"}
    assert origins.count("mutation") >= 10
    # No choice is scored twice.
    assert len({candidate.counts for candidate in search.pool.candidates}) == 14


def test_it_is_a_function_of_its_seed(make_space, bowl):
    space = make_space("concat")
    pools = []
    for seed in (1, 1, 2):
        search = searching(space, bowl(space, [0.5, 0.4, 0.3]), 12, seed)
        search.best()
        pools.append(search.pool.candidates)
    assert pools[0] == pools[1] != pools[2]


@pytest.mark.parametrize("stop", [1, 5, 12, 20, 25])
def test_a_search_that_was_stopped_goes_on_to_the_same_answer(make_space, bowl, stop):
    space = make_space("concat")
    ideal = [0.5, 0.4, 0.3]
    whole = searching(space, bowl(space, ideal), 14)
    wanted = whole.best()
    kept = []

    def keep(found) -> None:
        kept.append(found)
        if len(kept) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searching(space, bowl(space, ideal), 14, keep=keep).best()
    scorer = bowl(space, ideal)
    again = searching(space, scorer, 14, found=kept[-1])
    assert again.best() == wanted
    assert again.pool.candidates == whole.pool.candidates
    assert again.pool.points == whole.pool.points
    # Nothing is measured a second time.
    assert len(scorer.plans) == len(whole.pool.points) + 14 - stop


def test_what_was_found_for_other_ceilings_is_left_alone(make_space, bowl):
    space, other = make_space("concat", 0.5), make_space("concat", 0.7)
    kept = []
    searching(other, bowl(other, [0.5, 0.4, 0.3]), 6, keep=kept.append).best()
    fresh = searching(space, bowl(space, [0.5, 0.4, 0.3]), 6)
    misled = searching(space, bowl(space, [0.5, 0.4, 0.3]), 6, found=kept[-1])
    assert misled.best() == fresh.best()


class Ticking:
    """A clock that goes on by some seconds with each candidate."""

    def __init__(self, scorer, seconds: float) -> None:
        self.scorer, self.seconds, self.now = scorer, seconds, 0.0

    def __call__(self, *args):
        self.now += self.seconds
        return self.scorer(*args)

    def time(self) -> float:
        return self.now


def timed(space, scorer, seconds, minutes) -> WidthSearch:
    ticking = Ticking(scorer, seconds)
    return WidthSearch(space, ticking, Search(minutes=minutes), Memory(), ticking.time)


def test_a_time_shorter_than_one_candidate_is_refused_in_one_line(make_space, bowl):
    space = make_space("concat")
    said = "search.minutes 0.1 is shorter than one candidate, which takes 7.0 seconds; give at"
    with pytest.raises(BadInput, match=said) as caught:
        timed(space, bowl(space, [0.5] * 3), 7.0, 0.1).best()
    assert "\n" not in str(caught.value)


def test_it_ends_with_its_time_and_the_minimax_choice_is_scored_in_any_case(make_space, bowl):
    space = make_space("deep")
    search = timed(space, bowl(space, [0.5] * 5), 7.0, 0.12)
    assert search.best() is not None
    assert [candidate.origin for candidate in search.pool.candidates] == ["minimax"]
    search = timed(space, bowl(space, [0.5] * 5), 1.0, 1.0)
    search.best()
    assert 50 <= search.clock() <= 62
    # The profile has at most two fifths of it.
    assert len(search.pool.points) <= 25


def test_ceilings_out_of_reach_have_no_answer(make_space, bowl):
    space = make_space(macs=1.0)
    assert searching(space, bowl(space, [0.5, 0.5])).best() is None


def test_candidates_whose_measured_cost_is_too_high_are_not_taken(make_space, bowl):
    space = make_space("plain", macs=1e12)
    space.ceilings["latency"] = 0.6
    space.chooser.times = {"": 1.0}
    space.chooser.known.clear()

    class Slow(bowl):
        """Takes more time than what its layers save one by one lets think."""

        def __call__(self, plan, part=1.0):
            scored = super().__call__(plan, part)
            shares = [len(units) / group.num_units for group, units in plan]
            latency = 1 - 0.4 * sum(shares) ** 0.75
            return type(scored)(scored.distance, {**scored.costs, "latency": latency})

    search = searching(space, Slow(space, [0.0, 0.0]), 30)
    best = search.best()
    assert best is not None
    assert best.latency <= 0.6
    assert any(not candidate.is_legal for candidate in search.pool.candidates)


class After:
    """Scores plans after a trial as if another share of each group had better gone."""

    def __init__(self, bowl, space, ideal) -> None:
        self.bowl = bowl(space, ideal)

    def __call__(self, plan) -> float:
        return self.bowl(plan).distance


TRIED = Search(candidates=14, trials=5)


def trying(space, scorer, trial, **memory) -> WidthSearch:
    return WidthSearch(space, scorer, TRIED, Memory(**memory), trial=trial)


def test_the_best_after_its_trial_is_taken(make_space, bowl, caplog):
    space = make_space("concat")
    scorer, trial = bowl(space, [0.9, 0.1, 0.2]), After(bowl, space, [0.3, 0.5, 0.5])
    search = trying(space, scorer, trial)
    with caplog.at_level("INFO"):
        best = search.best()
    legal = sorted((c for c in search.pool.candidates if c.is_legal), key=lambda c: c.distance)
    minimax = next(c for c in legal if c.origin == "minimax")
    tried = [c for c in legal if c.recovered is not None]
    assert minimax in tried
    # The best as cut besides it, each of them tried once.
    assert tried == [c for c in legal if c in (*legal[:4], minimax) or c in legal[:5]][:5]
    assert len(trial.bowl.plans) == 5
    assert [c.recovered for c in tried] == [trial(space.plan(c.counts)) for c in tried]
    assert best.recovered == min(c.recovered for c in tried) <= minimax.recovered
    assert best != legal[0]
    order = sorted(range(5), key=lambda place: tried[place].recovered)
    told = ", ".join(str(place + 1) for place in order)
    said = f"5 candidates tried after 30 steps of training; by their places as cut, their order is now {told}; the best"  # noqa: E501
    assert said in caplog.text


@pytest.mark.parametrize("seed", range(3))
def test_with_trials_it_is_never_worse_than_minimax_by_their_own_score(make_space, bowl, seed):
    space = make_space("deep")
    ideal = [0.1 + 0.15 * ((seed + place) % 5) for place in range(5)]
    search = trying(space, bowl(space, ideal), After(bowl, space, ideal[::-1]), seed=seed)
    best = search.best()
    minimax = next(c for c in search.pool.candidates if c.origin == "minimax")
    assert best.recovered <= minimax.recovered


@pytest.mark.parametrize("stop", [0, 1, 3, 5])
def test_a_search_that_was_stopped_in_its_trials_goes_on_to_the_same_answer(make_space, bowl, stop):
    space = make_space("concat")
    ideal, other = [0.9, 0.1, 0.2], [0.3, 0.5, 0.5]
    whole = trying(space, bowl(space, ideal), After(bowl, space, other))
    wanted = whole.best()
    kept = []
    done = len(whole.pool.points) + 14 + stop

    def keep(found) -> None:
        kept.append(found)
        if len(kept) == done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trying(space, bowl(space, ideal), After(bowl, space, other), keep=keep).best()
    scorer, trial = bowl(space, ideal), After(bowl, space, other)
    again = trying(space, scorer, trial, found=kept[-1])
    assert again.best() == wanted
    assert again.pool.candidates == whole.pool.candidates
    assert len(scorer.plans) == 0
    assert len(trial.bowl.plans) == 5 - stop


def test_candidates_that_all_trials_broke_are_ranked_as_cut(make_space, bowl):
    space = make_space("concat")
    search = trying(space, bowl(space, [0.9, 0.1, 0.2]), lambda plan: float("inf"))
    assert search.best().counts == search.pool.ranked()[0].counts


@pytest.mark.parametrize(("seconds", "made"), [(30.0, 2), (9.0, 3), (0.5, 12)])
def test_trials_have_their_share_of_the_search_time(make_space, bowl, caplog, seconds, made):
    space = make_space("deep")
    ticking = Ticking(bowl(space, [0.9, 0.1, 0.1, 0.5, 0.5]), 1.0)
    begun = []

    def trial(plan) -> float:
        begun.append(ticking.now)
        ticking.now += seconds
        return 1.0

    settings = Search(minutes=1.0, trials=12)
    search = WidthSearch(space, ticking, settings, Memory(), ticking.time, trial)
    with caplog.at_level("INFO"):
        search.best()
    # Three fifths are the pool's; then no trial begins after the end but the second one.
    assert begun[0] == 36
    assert len(begun) == made
    assert all(start < 60 for start in begun[2:])
    assert ("for want of time" in caplog.text) == (made < 12)
    assert len(search.pool.points) <= 15


def test_a_time_whose_share_is_shorter_than_one_candidate_is_refused(make_space, bowl):
    space = make_space("concat")
    ticking = Ticking(bowl(space, [0.5] * 3), 7.0)
    # 0.15 minutes are nine seconds, of which candidates have five.
    settings = Search(minutes=0.15, trials=2)
    said = "takes 7.0 seconds of 60% of it; give at least 1.9, or fewer"
    with pytest.raises(BadInput, match=said):
        WidthSearch(space, ticking, settings, Memory(), ticking.time, lambda plan: 0.0).best()
