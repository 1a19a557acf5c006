"""Every YAML under configs/ is accepted, and trains a few batches."""

from pathlib import Path

import pytest
import yaml

import regrow.configs
from regrow.scripts import train

CONFIGS = sorted(Path(regrow.configs.__file__).parent.rglob("*.yaml"))
TRAINING = [path for path in CONFIGS if "task" in yaml.safe_load(path.read_text())]
PRUNING = [path for path in CONFIGS if "criterion" in yaml.safe_load(path.read_text())]
SHORT = ["--fit.epochs", "1", "--fit.trainer", '{"limit_train_batches": 1, "limit_val_batches": 1}']


def test_the_list_of_configs_is_complete() -> None:
    assert len(TRAINING) >= 7
    assert len(PRUNING) >= 3
    assert len(CONFIGS) == len(TRAINING) + len(PRUNING)


def _needs(path: Path, data_root: Path) -> list[str]:
    """Skip where the data of a config is absent; shrink the built-in sample."""
    data = yaml.safe_load(path.read_text())["data"]
    if "root" in data and not (data_root / data["root"]).is_dir():
        pytest.skip(f"{path.name} needs {data['root']} under REGROW_DATA")
    source = data["source"]["class_path"].rpartition(".")[2]
    if source == "DigitScenes":
        return [f"--data.source.{n}={k}" for n, k in SCENES.items()]
    return []


SCENES = {"num_train": 8, "num_val": 4, "num_test": 4}


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_config_trains(path: Path, tmp_path: Path, data_root: Path) -> None:
    args = ["--config", str(path), "--run", str(tmp_path / "run"), *SHORT, *_needs(path, data_root)]
    report = train.run(args)
    assert (tmp_path / "run" / "best.ckpt").is_file()
    assert 0 <= report.figures["score"]["value"] <= 1
