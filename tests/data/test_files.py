"""Files are written whole or not at all."""

from pathlib import Path
from typing import Any

import pytest

from regrow.data.files import whole_folder, write_atomic


def test_write_atomic_keeps_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(file: Any) -> None:
        file.write(b"half of the new")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_a_whole_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "a"
    for name in ("old", "new"):
        with whole_folder(folder) as made:
            (made / name).touch()
            assert not (folder / name).exists()
        assert [file.name for file in folder.iterdir()] == [name]
    assert [entry.name for entry in folder.parent.iterdir()] == ["a"]


def test_a_whole_folder_keeps_the_old_one_when_filling_fails(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "old").touch()

    def fill() -> None:
        with whole_folder(folder) as made:
            (made / "half").touch()
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        fill()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert [entry.name for entry in folder.iterdir()] == ["old"]
