"""Ways to retrain, compared as a user compares them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regrow.pipelines.experiments import commands as comparisons
from regrow.scripts import compare

ROOT = Path(__file__).parents[2]
Folder = Callable[..., Path]


@pytest.fixture
def words(folder: Folder, tmp_path: Path) -> Callable[..., list[str]]:
    """Return the words of a comparison in which blue squares come late."""
    root = folder("images", ("red", "green", "blue"), 10)
    source = "regrow.data.staged.Staged"

    def make(*more: str) -> list[str]:
        given = [f"--config={ROOT / 'configs' / 'compare_retraining.yaml'}"]
        for side, stage in (("before", "before"), ("data", "after")):
            staged = {
                "class_path": source,
                "init_args": {
                    "source": {"class_path": "regrow.data.formats.ImageFolder"},
                    "stage": stage,
                    "late_classes": ["blue"],
                    "late_share": 0.0,
                    "corruption": None,
                },
            }
            given += [f"--{side}.source={json.dumps(staged)}", f"--{side}.root={root}"]
            given += [f"--{side}.batch_size=8", f"--{side}.augment=[]"]
        given += ["--task.net=small", "--task.optimization.lr=0.05", "--fit.epochs=5"]
        given += ["--share=0.6", "--memory=6", "--num_seeds=1", f"--run={tmp_path / 'run'}"]
        return [*given, *more]

    return make


def test_ways_to_retrain_are_compared(words: Callable[..., list[str]], tmp_path: Path) -> None:
    figures = comparisons.compare(words()).figures
    assert figures["num_images"] == {"early": 20, "late": 10, "all": 30}
    ways = figures["strategies"]
    assert list(ways) == ["parent", "scratch", "warm", "replay", "new-only"]
    # The old network misses all images of a class that it does not know.
    assert ways["parent"]["scores"]["late"] == [0]
    assert ways["parent"]["scores"]["early"][0] > 0.9
    # 30 images and 5 epochs; 3 epochs of them; 16 and 10 images for as many as come nearest.
    assert ways["scratch"]["compute"] == 1
    assert ways["warm"]["compute"] == pytest.approx(90 / 150)
    assert ways["replay"]["compute"] == pytest.approx(6 * 16 / 150)
    assert ways["new-only"]["compute"] == pytest.approx(9 * 10 / 150)
    # Trained on blue alone, it has forgotten what red and green are.
    assert ways["new-only"]["scores"]["early"][0] < 0.6
    assert ways["replay"]["scores"]["early"][0] > ways["new-only"]["scores"]["early"][0]
    assert (tmp_path / "run" / "score_against_images.png").is_file()
    page = (tmp_path / "run" / "report.md").read_text()
    assert "From 20 to 30 training images, 1 new class (blue); 1 seed." in page


def test_a_comparison_goes_on_where_it_was(words: Callable[..., list[str]], tmp_path: Path) -> None:
    only = '--strategies=["warm"]'
    first = comparisons.compare(words(only)).figures["strategies"]
    trained = list((tmp_path / "run" / "runs").glob("*/trained.json"))
    assert len(trained) == 3
    # As an earlier version wrote one of them.
    values = json.loads(trained[0].read_text())
    values["strategy"] = values.pop("candidate")
    trained[0].write_text(json.dumps(values))
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "run" / "runs").rglob("*")}
    again = comparisons.compare(words(only, "--resume=true")).figures["strategies"]
    assert again == first
    files = (tmp_path / "run" / "runs").rglob("*")
    assert {file: file.stat().st_mtime_ns for file in files} == kept


def test_bad_input_is_one_line(
    words: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    for option, said in (
        ("--share=0", "share is 0.0, it must lie in (0, 1]"),
        ("--memory=21", "replay is 21, more than the 20 training images"),
        ("--num_seeds=0", "num_seeds is 0"),
        ('--data.source.init_args.late_classes=["pink"]', "late_classes names pink"),
    ):
        assert compare.main(words(option)) == 2
        assert said in capsys.readouterr().err
