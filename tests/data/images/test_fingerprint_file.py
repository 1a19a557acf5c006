"""The file of fingerprints: where it lies, and when it is believed."""

import os
from pathlib import Path

import pytest

from regrow.data.images.fingerprint_file import file_of, read_kept, write_kept


def test_there_is_a_file_for_each_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    files = [file_of(tmp_path / name) for name in ("a", "b", "a")]
    assert files[0] == files[2] != files[1]
    assert all(file is not None and file.parent == tmp_path / "cache" for file in files)
    monkeypatch.setenv("REGROW_CACHE", "off")
    assert file_of(tmp_path / "a") is None
    monkeypatch.setenv("REGROW_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    found = file_of(tmp_path / "a")
    assert found is not None
    assert found.parent == tmp_path / "xdg" / "regrow"


def test_what_is_written_is_read_and_what_is_torn_or_linked_is_not(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    assert read_kept(file) == {}
    write_kept(file, {"a.png": [[1, 2, 3], {}]})
    assert read_kept(file) == {"a.png": [[1, 2, 3], {}]}
    (tmp_path / "link.json").symlink_to(file)
    assert read_kept(tmp_path / "link.json") == {}
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert read_kept(file) == {}


def test_what_others_can_write_is_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    write_kept(file, {"a.png": [[1, 2, 3], {}]})
    os.chmod(file, 0o666)
    assert read_kept(file) == {}
