"""What `--print_config` writes is read back to the same settings."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import regrow.configs
from regrow.errors import BadInput
from regrow.pipelines import commands
from regrow.pipelines.commands import export, prune, train
from regrow.pipelines.experiments.commands import compare

FOLDER = Path(regrow.configs.__file__).parent
CONFIGS = sorted(FOLDER.glob("*.yaml"))
CONTENTS: dict[Path, Any] = {path: yaml.safe_load(path.read_text()) for path in CONFIGS}
Printed = Callable[..., dict[str, Any]]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    """Return the settings that a command prints, and nothing else beside them."""

    def run(command: Callable[..., Any], *words: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            command([*words, "--print_config"])
        assert ended.value.code == 0
        out, err = capsys.readouterr()
        assert err == ""
        return yaml.safe_load(out)

    return run


def line_of(path: Path) -> tuple[Callable[..., Any], list[str]]:
    """Return the command that a config is for, and the words to give it."""
    content, words = CONTENTS[path], ["--config", str(path)]
    if "before" in content or "dropouts" in content:
        return compare, words
    if "criterion" in content:
        return prune, [*words, "--checkpoint", "x.ckpt"]
    whole = path.with_name(path.name.replace("_young", ""))  # what it is laid over
    return train, ["--config", str(whole), *words]


def named(content: Any) -> list[str]:
    """Return the classes that nested settings name."""
    if isinstance(content, dict):
        own = [content["class_path"]] if isinstance(content.get("class_path"), str) else []
        return own + [path for value in content.values() for path in named(value)]
    return [path for value in content for path in named(value)] if isinstance(content, list) else []


def test_every_command_has_a_config() -> None:
    assert {line_of(path)[0] for path in CONFIGS} == {train, prune, compare}
    assert len(CONFIGS) >= 18


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_printed_config_is_read_back(path: Path, printed: Printed, tmp_path: Path) -> None:
    command, words = line_of(path)
    first = printed(command, *words)
    file = tmp_path / "printed.yaml"
    file.write_text(yaml.safe_dump(first))
    assert printed(command, "--config", str(file)) == first
    # Each class by the path that the config names it by, whatever room offers it too.
    assert set(named(CONTENTS[path])) <= set(named(first))
    assert "Unable to serialize" not in file.read_text()


def test_options_of_the_command_line_are_printed(printed: Printed) -> None:
    config = str(FOLDER / "classification.yaml")
    found = printed(train, "--config", config, "--fit.epochs", "3", "--gate.margin", "0.1")
    assert found["fit"]["epochs"] == 3
    assert found["gate"]["margin"] == 0.1
    (affine,) = found["data"]["init_args"]["augment"]
    assert affine["init_args"]["degrees"] == 8
    assert found["task"]["class_path"] == "regrow.models.classification.Classification"
    assert found["data"]["class_path"] == "regrow.data.module.GrowingData"
    assert printed(export, "x.ckpt", "--opset", "17")["opset"] == 17


def test_a_script_prints_nothing_but_the_config() -> None:
    script, words = FOLDER.parent / "scripts" / "prune.py", ["--target.macs=0.5", "--print_config"]
    done = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert yaml.safe_load(done.stdout)["target"]["macs"] == 0.5


@pytest.mark.parametrize(
    ("command", "said"),
    [(commands.prune, "^--checkpoint: req"), (commands.export, "^checkpoint: r")],
)
def test_what_is_missing_is_named_as_it_is_given(command: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        command([])
