"""Trials: each pair is trained once, kept, and read when a comparison goes on."""

import json
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from regrow.errors import BadInput
from regrow.pipelines.experiments.trials import Setup, Trial, of_each, run, run_one


@dataclass(frozen=True)
class Named:
    name: str


@dataclass(frozen=True)
class Scored(Trial):
    score: float


@dataclass(frozen=True)
class Drawn(Setup[Named, Scored]):
    """Trains nothing: the score is told, and what was asked for is written down."""

    folder: Path
    asked: list[tuple[str, int]] = field(default_factory=list)
    stop_at: tuple[str, int] | None = None

    def file(self, candidate: Named, seed: int) -> Path:
        return self.folder / f"{candidate.name}_{seed}.json"

    def checkpoint(self, candidate: Named, seed: int) -> Path:
        return self.folder / f"{candidate.name}_{seed}.ckpt"

    def read(self, values: Mapping[str, Any]) -> Scored:
        return Scored(**values)

    def train(self, candidate: Named, seed: int) -> Scored:
        if (candidate.name, seed) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append((candidate.name, seed))
        self.checkpoint(candidate, seed).write_bytes(b"weights")
        return Scored(candidate.name, seed, len(candidate.name) + seed / 10)


A, B = Named("a"), Named("bb")


def test_all_candidates_train_at_one_seed_before_the_next(tmp_path: Path) -> None:
    setup = Drawn(tmp_path)
    found = run(setup, [A, B], [3, 1])
    assert setup.asked == [("a", 3), ("bb", 3), ("a", 1), ("bb", 1)]
    assert found == {
        "a": [Scored("a", 3, 1.3), Scored("a", 1, 1.1)],
        "bb": [Scored("bb", 3, 2.3), Scored("bb", 1, 2.1)],
    }
    assert json.loads((tmp_path / "bb_3.json").read_text()) == {
        "candidate": "bb",
        "seed": 3,
        "score": 2.3,
    }


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Drawn(tmp_path, stop_at=("a", 1)), [A, B], [0, 1])
    setup = Drawn(tmp_path)
    found = run(setup, [A, B], [0, 1])
    assert setup.asked == [("a", 1), ("bb", 1)]
    assert found["bb"] == [Scored("bb", 0, 2.0), Scored("bb", 1, 2.1)]


@pytest.mark.parametrize("lost", ["a_0.json", "a_0.ckpt"])
def test_half_a_trial_is_none(lost: str, tmp_path: Path) -> None:
    run_one(Drawn(tmp_path), A, 0)
    (tmp_path / lost).unlink()
    setup = Drawn(tmp_path)
    assert run_one(setup, A, 0) == Scored("a", 0, 1.0)
    assert setup.asked == [("a", 0)]


@pytest.mark.parametrize("key", ["contestant", "strategy"])
def test_a_file_of_an_earlier_version_is_read(key: str, tmp_path: Path) -> None:
    (tmp_path / "a_7.ckpt").touch()
    (tmp_path / "a_7.json").write_text(json.dumps({key: "a", "seed": 7, "score": 0.5}))
    setup = Drawn(tmp_path)
    assert run_one(setup, A, 7) == Scored("a", 7, 0.5)
    assert not setup.asked


@pytest.mark.parametrize("text", ["{}", "[1]", '{"score": 1, "colour": 2}'])
def test_a_file_that_holds_no_trial_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "a_0.ckpt").touch()
    (tmp_path / "a_0.json").write_text(text)
    with pytest.raises(BadInput, match=r"a_0\.json: not the result of a trial .*; remove it"):
        run_one(Drawn(tmp_path), A, 0)


def test_all_are_begun_elsewhere_before_one_is_waited_for(tmp_path: Path) -> None:
    begun: list[tuple[str, int]] = []

    class Waiting(Future[Scored]):
        def result(self, timeout: float | None = None) -> Scored:
            assert len(begun) == 4
            return super().result(timeout)

    setup = Drawn(tmp_path)

    def submit(candidate: Named, seed: int) -> Future[Scored]:
        begun.append((candidate.name, seed))
        future = Waiting()
        future.set_result(run_one(setup, candidate, seed))
        return future

    found = run(setup, [A, B], [0, 1], submit)
    assert [trial.score for trial in found["bb"]] == [2.0, 2.1]
    assert len(begun) == len(set(begun)) == 4


def test_a_function_is_called_once_for_each_pair() -> None:
    asked = []

    def ask(candidate: Named, seed: int) -> str:
        asked.append((candidate.name, seed))
        return f"{candidate.name}{seed}"

    assert of_each(ask, [B, A], [2, 5], "asking") == {"bb": ["bb2", "bb5"], "a": ["a2", "a5"]}
    assert asked == [("bb", 2), ("a", 2), ("bb", 5), ("a", 5)]


def test_a_trial_is_told_by_name_and_seed() -> None:
    assert str(Trial("warm", 4)) == "warm, seed 4"
