"""The settings that a run leaves in its folder."""

from pathlib import Path

import pytest
import yaml

from regrow.data.config import data_beside, write_data_file
from regrow.errors import BadInput

SETTINGS = {
    "task": {"class_path": "own.Task"},
    "data": {"source": {"class_path": "regrow.data.sample.Digits"}, "size": [16, 16]},
    "resume": "auto",
    "seed": 3,
}


def test_a_run_leaves_its_settings_for_later_commands(tmp_path: Path) -> None:
    write_data_file(tmp_path, SETTINGS)
    assert yaml.safe_load((tmp_path / "data.yaml").read_text()) == {"data": SETTINGS["data"]}
    whole = {name: value for name, value in SETTINGS.items() if name != "resume"}
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == whole
    (tmp_path / "best.ckpt").write_bytes(b"")
    assert data_beside(tmp_path / "best.ckpt").size == (16, 16)


def test_a_checkpoint_without_data_beside_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("data: {}")
    with pytest.raises(BadInput, match=r"mine\.yaml: a config where a checkpoint belongs; give"):
        data_beside(tmp_path / "mine.yaml")
    with pytest.raises(BadInput, match=r": a folder; give a checkpoint in it, such as best\.ckpt$"):
        data_beside(tmp_path)
    with pytest.raises(BadInput, match=r"best\.ckpt: no such checkpoint; give the path"):
        data_beside(tmp_path / "best.ckpt")
    (tmp_path / "best.ckpt").write_bytes(b"")
    with pytest.raises(BadInput, match=r"data\.yaml: not there, so name the data"):
        data_beside(tmp_path / "best.ckpt")
    (tmp_path / "data.yaml").write_text("other: 1")
    with pytest.raises(BadInput, match="holds something else than data"):
        data_beside(tmp_path / "best.ckpt")
