"""Files are written whole or not at all, and read within limits."""

import errno
import json
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regrow.data.images.decoding import decode, decode_mask
from regrow.errors import BadInput, CannotWrite
from regrow.files import (
    file_hash,
    make_folder,
    read_bytes,
    read_json,
    read_text,
    read_yaml,
    whole_folder,
    write_atomic,
    write_json,
    write_text,
)


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


def test_a_folder_is_made_or_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/x", "link", "link/x"):
        with pytest.raises(CannotWrite, match=r"(file|link)(/x)?: cannot be written"):
            make_folder(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


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


def test_a_whole_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "deep" / "a"
    said = r"deep: cannot be written \(Not a directory\)"
    with pytest.raises(CannotWrite, match=said), whole_folder(place):
        raise AssertionError("it cannot be filled")


@pytest.fixture
def irregular(tmp_path: Path) -> dict[str, Path]:
    """What is no regular file, by what an error calls it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    own = socket.socket(socket.AF_UNIX)
    own.bind(str(tmp_path / "sock"))
    own.close()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    return {
        "a named pipe": tmp_path / "pipe",
        "a folder": tmp_path / "folder",
        "a socket": tmp_path / "sock",
        "a device": Path("/dev/zero"),
        "link is a named pipe": tmp_path / "link",
    }


@pytest.mark.parametrize("read", [read_bytes, read_text, read_json, read_yaml, decode, decode_mask])
def test_what_may_hang_or_never_end_is_refused(
    irregular: dict[str, Path], read: Callable[[Path], Any]
) -> None:
    for what, path in irregular.items():
        with pytest.raises(BadInput, match=what):
            read(path)


def test_files_have_a_limit_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    assert read_bytes(tmp_path / "a", 10) == b"x" * 10
    for read in (read_bytes, read_text, read_json):
        with pytest.raises(BadInput, match="a: more than 9 bytes"):
            read(tmp_path / "a", 9)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)  # a terabyte of nothing, on no disk
    with pytest.raises(BadInput, match="more than 2,147,483,648 bytes"):
        read_json(tmp_path / "sparse")
    with pytest.raises(BadInput, match="more than 1,048,576 bytes"):
        read_yaml(tmp_path / "sparse")


def test_a_file_whose_size_is_not_known_is_limited_too() -> None:
    status = Path("/proc/self/status")  # says that it has no bytes
    if not status.is_file():
        pytest.skip("no /proc")
    assert b"VmPeak" in read_bytes(status)
    with pytest.raises(BadInput, match="more than 10 bytes"):
        read_bytes(status, 10)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere: cannot be read \(No such file"):
        read_bytes(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"cannot be read \(File name too long"):
        read_bytes(tmp_path / ("a" * 300))
    with pytest.raises(BadInput, match=r"no name of a file \(embedded null byte"):
        read_bytes(tmp_path / "a\0b")
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(BadInput, match="latin: cannot be read as UTF-8 text"):
        read_text(tmp_path / "latin")


def test_a_name_that_is_no_utf8_is_written_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe\x80.png")
    values = {"name": name, "more": ["\ud800", "\u00e9\u4e2d\U0001f600", "\\udcff"]}
    write_json(tmp_path / "a.json", values)
    assert read_json(tmp_path / "a.json") == values
    content = (tmp_path / "a.json").read_bytes().decode("utf-8")  # is UTF-8
    assert "\u00e9\u4e2d\U0001f600" in content
    assert os.fsencode(json.loads(content)["name"]) == b"\xff\xfe\x80.png"


def test_newlines_are_read_alike_whatever_the_system(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(tmp_path / "a") == "a\nb\nc\n"


def test_a_full_disk_is_named_also_where_the_library_hides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "best.ckpt", tempfile.mkstemp
    write_atomic(path, lambda file: torch.save({"weights": torch.zeros(9)}, file))
    before = path.read_bytes()

    def full(**options: Any) -> tuple[int, str]:
        handle, name = real(**options)
        os.close(handle)
        return os.open("/dev/full", os.O_WRONLY), name

    monkeypatch.setattr(tempfile, "mkstemp", full)
    for write in (
        lambda file: torch.save({"weights": torch.ones(10**6)}, file),
        lambda file: file.write(b"x" * 10**6),
        lambda file: file.write(b"x"),  # is noticed when it is flushed
    ):
        with pytest.raises(CannotWrite) as told:
            write_atomic(path, write)
        assert str(told.value).startswith(f"{path}: cannot be written (No space left on device)")
        assert told.value.errno == errno.ENOSPC  # is an OSError too
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.ckpt"]


def test_other_errors_of_a_writer_stay_what_they_are(tmp_path: Path) -> None:
    def fail(file: Any) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        write_atomic(tmp_path / "a", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(CannotWrite, match="a: cannot be written"):
        write_text(tmp_path / "a" / "b.json", "{}")


def test_file_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert file_hash(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
