"""The width search: a sensitivity profile, a pool of joint candidates, and their mutations."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from math import inf
from random import Random

from regrow.data.batches.sampling import counter_seed
from regrow.errors import BadInput
from regrow.logs import log
from regrow.prune.channels.records import Plan
from regrow.prune.search.pool import Candidate, Point, Pool, curve
from regrow.prune.search.scoring import Scored
from regrow.prune.search.settings import Memory, Search
from regrow.prune.search.space import Counts, Space
from regrow.text import plural

# The profile is measured at so many widths of a group at most, and on this share of the images.
MOST_POINTS, PROFILE_IMAGES = 8, 0.5
# It takes this share of the pool's time at most; what is not measured then lies between the rest.
PROFILE_TIME = 0.4
# Trials have this share of the search time, and the pool has the rest.
TRIAL_TIME = 0.4
# So many are made in any case: of the best candidate as cut, and of the minimax choice.
LEAST_TRIALS = 2
# Mutations are made from so many of the best candidates.
NUM_PARENTS = 10
# How often a mutation is drawn again that was scored before.
MOST_DRAWS = 50
# How much of a new measurement goes into the correction of predicted times.
CORRECTION_RATE = 0.5


class WidthSearch:
    """A search for the widths of all layers under the ceilings of the costs.

    One group at a time is cut to some of its widths first, and its distance from the unpruned
    network is the profile. From it come the choice whose drops add up to least (a multiple-choice
    knapsack) and the one whose largest drop is least, which is FastNAS's; these, the ranking's own
    and a uniform one begin a pool of joint candidates, which are mutated while there is time. Each
    candidate is really cut, its batch norms are measured anew, and it is scored as a whole; the
    best one under the ceilings is taken. So it is never worse than the minimax choice by its own
    score. With trials the best ones, the minimax choice among them, are trained for a few steps and
    scored again, and that score decides. With a number of candidates for its end it is a function
    of seed and counters; the clock decides how far it comes otherwise.

    Source: EagleEye (Li et al. 2020, arXiv 2007.02491) for scores after measuring norms anew.

    Args:
        space: The choices under the ceilings.
        scorer: Cuts and scores candidates.
        search: When it ends.
        memory: Its seed, and what it goes on from.
        clock: The time in seconds.
        trial: Cuts a candidate, trains it for a few steps and returns its distance from the
            unpruned network; needed where the settings ask for trials.
    """

    def __init__(
        self,
        space: Space,
        scorer: Callable[..., Scored],
        search: Search,
        memory: Memory,
        clock: Callable[[], float] = time.monotonic,
        trial: Callable[[Plan], float] | None = None,
    ) -> None:
        self.space, self.scorer, self.search, self.memory = space, scorer, search, memory
        self.trial = trial if search.trials else None
        self.clock, self.began = clock, clock()
        key = {
            "seed": memory.seed,
            "groups": [group.layer for group in space.chooser.groups],
            "ladders": space.ladders,
            "ceilings": {name: float(value) for name, value in space.ceilings.items()},
            "search": asdict(search),
        }
        self.pool = Pool.going_on(key, memory.found)
        self.spent = self.pool.seconds
        self.space.correction = self.pool.correction

    def best(self) -> Candidate | None:
        """Search, and return the best candidate; None if none is under the ceilings.

        Raises:
            BadInput: If the search time is shorter than one candidate.
        """
        if not self.space.is_reachable():
            return None
        self._refuse_short()
        self._measure_profile()
        drops = self.drops()
        self._set_times()
        for origin, counts in self._seeds(drops):
            if counts is not None and counts not in self._seen():
                self._score(counts, origin)
            if self._is_over() and any(c.origin == "minimax" for c in self.pool.candidates):
                break
        while not self._is_over():
            child = self._child()
            if child is None:
                break
            self._score(child, "mutation")
        best = self.pool.best
        if best is not None:
            log.info(
                f"search: the best of {len(self.pool.candidates)} candidates is a {best.origin}, "
                f"{best.distance:.4f} from the unpruned network; {self._of_others()}"
            )
        return best if best is None or self.trial is None else self._tried(best, self.trial)

    def _tried(self, best: Candidate, trial: Callable[[Plan], float]) -> Candidate:
        """Return the best of the best candidates after a trial of each, as time allows."""
        contenders = self.pool.contenders(self.search.trials)
        if len(contenders) < LEAST_TRIALS:
            return best
        for number, candidate in enumerate(contenders):
            if number >= LEAST_TRIALS and self._is_late():
                break
            if candidate.recovered is None:
                found = replace(candidate, recovered=trial(self.plan(candidate)))
                self.pool.candidates[self.pool.candidates.index(candidate)] = found
                self._keep()
        tried = self.pool.tried()
        log.info(self._of_trials(tried))
        return tried[0] if tried[0].recovered != inf else best

    def plan(self, candidate: Candidate) -> Plan:
        """Return the plan of a candidate."""
        return self.space.plan(candidate.counts)

    def drops(self) -> list[dict[int, float]]:
        """Return for each group and legal number of units what removing them alone costs.

        What was not measured lies between what was; a group of which nothing was measured is taken
        to lose as others do for the same share of their scores.
        """
        measured: list[list[tuple[int, float]]] = [[(0, 0.0)] for _ in self.space.ladders]
        for point in self.pool.points:
            measured[point.group].append((point.count, min(point.drop, 1e6)))
        rates = [
            own[-1][1] / self._lost(g, own[-1][0]) for g, own in enumerate(measured) if own[1:]
        ]
        rate = sum(rates) / len(rates) if rates else 1.0
        for group, own in enumerate(measured):
            if not own[1:]:
                own += [(n, rate * self._lost(group, n)) for n in self.space.ladders[group][1:]]
        return [
            curve(own, ladder) for own, ladder in zip(measured, self.space.ladders, strict=True)
        ]

    def _lost(self, group: int, count: int) -> float:
        """Return the share of a group's scores that its lowest units have."""
        scores = self.space.chooser.scores[group]
        total = sum(scores)
        return max(sum(scores[:count]) / total, 1e-6) if total > 0 else count / len(scores)

    def _refuse_short(self) -> None:
        """Refuse a time in which not one candidate can be scored, by scoring the least one."""
        if self.search.minutes is None or self.pool.points or self.pool.candidates:
            return
        start = self.clock()
        self.scorer(self.space.plan(self.space.least))
        seconds, share = self.clock() - start, self._pool_share()
        if seconds > 60 * share * self.search.minutes:
            raise BadInput(
                f"search.minutes {self.search.minutes:g} is shorter than one candidate, which "
                f"takes {seconds:.1f} seconds{f' of {share:.0%} of it' if share < 1 else ''}; give "
                f"at least {10 * seconds / 60 / share:.2g}, or fewer search.num_images and "
                "search.num_batches; search null takes what the ranking gives"
            )

    def _measure_profile(self) -> None:
        done = {(point.group, point.count) for point in self.pool.points}
        for group, count in self._places():
            if (group, count) in done:
                continue
            if self._is_late(PROFILE_TIME * self._pool_share()):
                break
            scored = self.scorer(self.space.plan(self.space.single(group, count)), PROFILE_IMAGES)
            latency = scored.costs.get("latency")
            self.pool.points.append(Point(group, count, scored.distance, latency))
            self._keep()

    def _places(self) -> Iterator[tuple[int, int]]:
        """Yield the points of the profile: all groups coarsely first, then more finely."""
        seen = set()
        parts = 1
        while parts <= MOST_POINTS:
            for group, ladder in enumerate(self.space.ladders):
                for part in range(1, parts + 1):
                    count = ladder[round(part * (len(ladder) - 1) / parts)]
                    if count and (group, count) not in seen:
                        seen.add((group, count))
                        yield group, count
            parts *= 2

    def _set_times(self) -> None:
        """Make a table of measured times out of the profile, where latency has a ceiling."""
        now = self.space.chooser.now
        if "latency" not in self.space.ceilings:
            return
        saved: list[list[tuple[int, float]]] = [[(0, 0.0)] for _ in self.space.ladders]
        for point in self.pool.points:
            if point.latency is not None:
                saved[point.group].append((point.count, max(now - point.latency, 0.0)))
        if all(
            own[1:] for own, ladder in zip(saved, self.space.ladders, strict=True) if ladder[1:]
        ):
            self.space.times = [
                {n: now - gain for n, gain in curve(own, ladder).items()}
                for own, ladder in zip(saved, self.space.ladders, strict=True)
            ]

    def _seeds(self, drops: list[dict[int, float]]) -> Iterator[tuple[str, Counts | None]]:
        yield "minimax", self.space.minimax([*drops])
        yield "ranking", self.space.ranking()
        yield "knapsack", self.space.knapsack([*drops])
        yield "uniform", self.space.uniform()

    def _child(self) -> Counts | None:
        """Return a new candidate, a function of the seed and of what is in the pool; None if none.

        Where no candidate was under its ceilings, all are taken for parents.
        """
        rng = Random(counter_seed(self.memory.seed, len(self.pool.candidates)))
        parents = self.pool.ranked()[:NUM_PARENTS] or self.pool.candidates
        seen = self._seen()
        for _ in range(MOST_DRAWS if parents else 0):
            parent = parents[int(len(parents) * rng.random() ** 2)]
            child = self.space.mutated(parent.counts, rng)
            if child is not None and child not in seen:
                return child
        return None

    def _score(self, counts: Counts, origin: str) -> None:
        predicted = self.space.costs(counts)
        scored = self.scorer(self.space.plan(counts))
        ceilings = self.space.ceilings
        is_legal = all(scored.costs.get(name, inf) <= most for name, most in ceilings.items())
        latency = scored.costs.get("latency")
        self.pool.candidates.append(Candidate(counts, scored.distance, is_legal, origin, latency))
        if latency is not None and predicted.get("latency", 0.0) > 0:
            ratio = latency / predicted["latency"]
            self.pool.correction *= ratio**CORRECTION_RATE
            self.space.correction = self.pool.correction
        self._keep()

    def _seen(self) -> set[Counts]:
        return {candidate.counts for candidate in self.pool.candidates}

    def _is_over(self) -> bool:
        most = self.search.candidates
        if most is not None and len(self.pool.candidates) >= most:
            return True
        return self._is_late(self._pool_share())

    def _pool_share(self) -> float:
        """Return the share of the search time that candidates have before trials begin."""
        return 1 - TRIAL_TIME if self.trial is not None else 1.0

    def _is_late(self, share: float = 1.0) -> bool:
        """Whether a share of the search time is over."""
        minutes = self.search.minutes
        return minutes is not None and self._seconds() >= share * 60 * minutes

    def _seconds(self) -> float:
        return self.spent + self.clock() - self.began

    def _keep(self) -> None:
        if self.memory.keep is not None:
            self.memory.keep(self.pool.to_plain(self._seconds()))

    def _of_others(self) -> str:
        """Return the distances of what the pool began with, in words."""
        told = [c for c in self.pool.candidates if c.origin != "mutation"]
        return ", ".join(f"{c.origin} {c.distance:.4f}" for c in told)

    def _of_trials(self, tried: list[Candidate]) -> str:
        """Return in words what the trials came to, and how they changed the order."""
        ranked = sorted(tried, key=lambda c: (c.distance, c.counts))
        places = ", ".join(str(ranked.index(candidate) + 1) for candidate in tried)
        told = [("the best", tried[0]), ("the best as cut", ranked[0])]
        told += [("minimax", c) for c in tried if c.origin == "minimax"]
        ways = [f"{name} {c.distance:.4f} -> {c.recovered:.4f}" for name, c in told]
        missing = len(self.pool.contenders(self.search.trials)) - len(tried)
        short = f", {missing} more not for want of time" if missing else ""
        return (
            f"search: {plural(len(tried), 'candidate')} tried after "
            f"{plural(self.search.trial_steps, 'step')} of training{short}; by their places as "
            f"cut, their order is now {places}; {', '.join(ways)}"
        )
