"""The help of each script: a short text without an import, and long texts by topic."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("train", "prune", "export", "serve", "compare", "demo", "lineage", "monitor", "replay")
WITHOUT_TOPICS = ("demo", "lineage", "monitor", "replay")  # that have `all` alone
Help = Callable[..., str]


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture[str]) -> Help:
    """Return what a script prints for words that ask for help."""

    def printed(script: str, *words: str) -> str:
        code: Any
        try:
            code = import_module(f"regrow.scripts.{script}").main([*words])
        except SystemExit as ended:
            code = ended.code
        assert code == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return printed


def about(script: str) -> str:
    return str(import_module(f"regrow.scripts.{script}").__doc__)


def topics(script: str) -> list[str]:
    return about(script).strip().rpartition("\n")[2].strip().split(", ")


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_the_text_of_the_script(script: str, word: str, help_of: Help) -> None:
    text = help_of(script, word)
    assert text.strip() == about(script).strip()
    assert len(text.splitlines()) <= 30


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_short_help_names_options_that_there_are(script: str, help_of: Help) -> None:
    everything = help_of(script, "--help", "all")
    options = re.findall(r"^  --([\w.]+)", about(script), re.MULTILINE)
    assert 2 <= len(options) <= 14
    for option in options:
        assert re.search(rf"^  --{re.escape(option)}\b[ ,]", everything, re.MULTILINE), option


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_short_help_begins_with_lines_that_can_be_typed(script: str) -> None:
    lines = [line for line in about(script).splitlines() if line.startswith("python ")]
    assert 3 <= len(lines) <= 4
    for line in lines:
        _, file, *words = shlex.split(line)
        assert file == f"scripts/{script}.py"
        for word, value in zip(words, words[1:], strict=False):
            if word == "--config" and value.startswith("configs/"):
                assert (ROOT / value).is_file()


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_topics_are_those_of_the_parser(
    script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_module(f"regrow.scripts.{script}").main(["--help", "no_such_topic"]) == 2
    told = re.search(r"the topics are ([\w, ]+)", capsys.readouterr().err)
    assert told is not None
    assert sorted(told[1].strip().split(", ")) == sorted(topics(script))


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s not in WITHOUT_TOPICS])
def test_every_option_has_one_topic(script: str, help_of: Help) -> None:
    def options(topic: str) -> set[str]:
        return set(re.findall(r"^  --([\w.]+)", help_of(script, "--help", topic), re.MULTILINE))

    found = {topic: options(topic) for topic in topics(script)}
    assert set().union(*(found[t] for t in found if t != "all")) == found["all"]
    for topic, names in found.items():
        assert names
        if topic not in ("all", "general"):
            assert {name.partition(".")[0] for name in names} == {topic}


def test_a_mistyped_topic_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert import_module("regrow.scripts.train").main(["--help", "dta"]) == 2
    assert capsys.readouterr().err.endswith("did you mean --help data?\n")


def test_help_of_the_other_comparison_follows_its_config(help_of: Help) -> None:
    config = str(ROOT / "configs" / "compare_retraining.yaml")
    text = help_of("compare", "--config", config, "--help", "all")
    assert re.search(r"^  --before\b", text, re.MULTILINE)
    assert not re.search(r"^  --dropouts\b", text, re.MULTILINE)


def test_help_imports_nothing_that_takes_long() -> None:
    line = [sys.executable, "-X", "importtime", str(ROOT / "scripts" / "train.py"), "--help"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    imported = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert "regrow.guard" in imported
    heavy = {"torch", "numpy", "yaml", "jsonargparse", "pytorch_lightning", "rich"}
    assert not imported & heavy
