"""Arrays are read as they were written, and only where their hash is the one that was noted."""

import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from regrow.errors import BadInput
from regrow.monitor.files import arrays
from regrow.monitor.files.arrays import read_arrays, write_arrays


def test_arrays_are_read_as_they_were_written(tmp_path: Path) -> None:
    given = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([True, False]), "c": np.zeros(0)}
    noted = write_arrays(tmp_path / "x.npz", given)
    assert noted == sha256((tmp_path / "x.npz").read_bytes()).hexdigest()
    found = read_arrays(tmp_path / "x.npz", noted)
    assert found.keys() == given.keys()
    for name, values in given.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype


def test_another_file_is_refused(tmp_path: Path) -> None:
    write_arrays(tmp_path / "x.npz", {"a": np.zeros(3)})
    with pytest.raises(BadInput, match=r"x\.npz: is not that of this baseline; make the baseline"):
        read_arrays(tmp_path / "x.npz", "ab" * 32)


def test_a_file_that_is_not_there_or_too_large_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match=r"x\.npz: .*; make the baseline again$"):
        read_arrays(tmp_path / "x.npz", "ab" * 32)
    noted = write_arrays(tmp_path / "x.npz", {"a": np.zeros(3)})
    monkeypatch.setattr(arrays, "LARGE", 10)
    with pytest.raises(BadInput, match=r"x\.npz: .*; make the baseline again$"):
        read_arrays(tmp_path / "x.npz", noted)


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive"])
def test_what_holds_no_arrays_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(BadInput, match=r"x\.npz: damaged; make the baseline again"):
        read_arrays(tmp_path / "x.npz", sha256(content).hexdigest())


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "LARGE", 10_000)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(20_000))
    content = (tmp_path / "x.npz").read_bytes()
    assert len(content) < 10_000
    with pytest.raises(BadInput, match="damaged"):
        read_arrays(tmp_path / "x.npz", sha256(content).hexdigest())
