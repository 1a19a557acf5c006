"""An archive is trusted with nothing but the bytes of the members that are asked for."""

import gzip
import os
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import pytest

from regrow.deploy import archives
from regrow.deploy.archives import Wanted, unpack_members
from regrow.errors import BadInput

Archive = Callable[..., Path]


def every(members: Sequence[tarfile.TarInfo]) -> Wanted:
    """Want every file, under its own name."""
    return ((member, PurePosixPath(member.name)) for member in members if member.isfile())


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


@pytest.fixture
def archive(channel: Path, pack: Callable[..., Path]) -> Archive:
    """Return a maker of archives in the channel: contents or ready members by name."""

    def make(name: str = "model.tar.gz", /, **members: bytes | tarfile.TarInfo) -> Path:
        return pack(channel / name, members)

    return make


@pytest.mark.parametrize("name", ["model.tar.gz", "model.tgz", "model.tar"])
def test_only_what_is_wanted_is_unpacked_and_under_the_name_it_is_given(
    archive: Archive, tmp_path: Path, name: str
) -> None:
    """An archive of macOS has a file of attributes beside each file; a reader leaves it out."""
    packed = archive(name, **{"._best.ckpt": b"mac", "run/best.ckpt": b"mine", "./a/b.txt": b"b"})
    shown: list[str] = []

    def own(members: Sequence[tarfile.TarInfo]) -> Wanted:
        shown.extend(member.name for member in members)
        return [
            (member, PurePosixPath("deep", path.name))
            for member, path in every(members)
            if not path.name.startswith("._")
        ]

    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / "stale.ckpt").write_bytes(b"of an earlier archive")
    unpack_members(packed, folder, own)
    assert shown == ["._best.ckpt", "run/best.ckpt", "./a/b.txt"]
    files = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*.*")}
    assert files == {"deep/best.ckpt": b"mine", "deep/b.txt": b"b"}


def linked(kind: bytes, target: str, name: str = "link.ckpt") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    "members",
    [
        {"../best.ckpt": b"x"},
        {"/best.ckpt": b"x"},
        {"a/../../best.ckpt": b"x"},
        {"best.ckpt": b"x", "link": linked(tarfile.SYMTYPE, "/etc/passwd")},
        {"best.ckpt": b"x", "link": linked(tarfile.LNKTYPE, "best.ckpt")},
        {"best.ckpt": b"x", "link": linked(tarfile.CHRTYPE, "")},
        {"best.ckpt": b"x", "link": linked(tarfile.FIFOTYPE, "")},
        {"best.ckpt": b"x", "memory/../../snapshot.json": b"{}"},
        {"best.ckpt": b"x", "link": linked(tarfile.SYMTYPE, "/etc", "memory/images")},
    ],
    ids=[
        "parent",
        "absolute",
        "inner",
        "symlink",
        "hardlink",
        "device",
        "fifo",
        "memory-parent",
        "memory-symlink",
    ],
)
def test_an_archive_that_leads_out_is_refused_whole(
    archive: Archive, tmp_path: Path, members: dict[str, bytes | tarfile.TarInfo]
) -> None:
    packed = archive(**members)
    with pytest.raises(BadInput, match="refused, its member .* is a link, a device or leads out"):
        unpack_members(packed, tmp_path / "unpacked", every)
    assert not (tmp_path / "unpacked").exists()
    assert not (tmp_path / "best.ckpt").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("name", ["model.tar.gz", "model.tar"])
def test_a_torn_archive_is_named(archive: Archive, tmp_path: Path, name: str, share: float) -> None:
    parts = {n: os.urandom(50_000) for n in ("best.ckpt", "memory/snapshot.json")}
    packed = archive(name, **parts)
    content = packed.read_bytes()
    packed.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadInput, match=r"model\.tar(\.gz)?: cannot be unpacked"):
        unpack_members(packed, tmp_path / "unpacked", every)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_names_in_a_memory_that_cannot_be_together_are_named(
    archive: Archive, tmp_path: Path
) -> None:
    members = {"best.ckpt": b"x", "memory/a": b"a file", "memory/a/b": b"below it"}
    with pytest.raises(BadInput, match=r"model\.tar\.gz: cannot be unpacked"):
        unpack_members(archive(**members), tmp_path / "unpacked", every)
    assert not (tmp_path / "unpacked").exists()


def test_what_is_no_archive_is_named(channel: Path, tmp_path: Path) -> None:
    (channel / "model.tar.gz").write_bytes(b"<html>")
    with pytest.raises(BadInput, match="give a training job's model.tar.gz"):
        unpack_members(channel / "model.tar.gz", tmp_path / "unpacked", every)


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


def _sized(size: int) -> bytes:
    """Return the eight bytes and more of a size that is no octal number."""
    return b"\xff" + size.to_bytes(11, "big", signed=True)


BOMBS = {
    "member": _header("best.ckpt", 2**40) + bytes(2**20),
    "header": _header("best.ckpt", 2**33, tarfile.XHDTYPE) + bytes(2**20),
    "name": _header("best.ckpt", 2**33, tarfile.GNUTYPE_LONGNAME) + bytes(2**20),
    "many": b"".join(_header(f"{n}", 2**30) for n in range(100)),
    "end": _header("best.ckpt", 4) + b"torn",
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("name", ["model.tar.gz", "model.tar"])
def test_an_archive_without_bound_is_refused(
    channel: Path, tmp_path: Path, name: str, bomb: str
) -> None:
    content = BOMBS[bomb]
    (channel / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(BadInput, match="model.tar.*cannot be unpacked"):
        unpack_members(channel / name, tmp_path / "unpacked", every)
    assert not (tmp_path / "unpacked").exists()


def test_a_member_of_less_than_no_bytes_does_not_go_in_circles(
    channel: Path, tmp_path: Path
) -> None:
    header = bytearray(_header("best.ckpt", 0, tarfile.XHDTYPE))
    header[124:136] = _sized(-512)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (channel / "model.tar").write_bytes(bytes(header) * 4)
    with pytest.raises(BadInput, match="cannot be unpacked"):
        unpack_members(channel / "model.tar", tmp_path / "unpacked", every)


def test_a_member_with_holes_is_refused(channel: Path, tmp_path: Path) -> None:
    header = bytearray(_header("best.ckpt", 0, tarfile.GNUTYPE_SPARSE))
    header[483:495] = b"%011o\0" % (2**32)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (channel / "model.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(BadInput, match="or has holes"):
        unpack_members(channel / "model.tar", tmp_path / "unpacked", every)


def test_what_does_not_fit_on_the_disk_is_refused_before_it_is_written(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = archive(**{"best.ckpt": b"x" * 1000, "code.py": b"y" * 1000})

    def alone(members: Sequence[tarfile.TarInfo]) -> Wanted:
        return [pair for pair in every(members) if pair[0].name == "best.ckpt"]

    full = shutil.disk_usage(tmp_path)._replace(free=999)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: full)
    with pytest.raises(BadInput, match="its 1,000 bytes do not fit into .*, which has 999"):
        unpack_members(packed, tmp_path / "unpacked", alone)


def test_too_many_members_are_refused(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "NUM_MEMBERS", 3)
    packed = archive(**{"best.ckpt": b"x", **{f"memory/{n}": b"" for n in range(3)}})
    with pytest.raises(BadInput, match="more than 3 members"):
        unpack_members(packed, tmp_path / "unpacked", every)


@pytest.mark.slow
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_damaged_archive_is_refused_or_unpacked_below_its_folder(
    archive: Archive,
    tmp_path: Path,
    mutated_bytes: Callable[[bytes, int], bytes],
    is_packed: bool,
) -> None:
    members = {"best.ckpt": os.urandom(700), "memory/snapshot.json": b"{}", "memory/a/b": b"x"}
    whole = archive("model.tar", **members).read_bytes()
    name = "model.tar.gz" if is_packed else "model.tar"
    (tmp_path / "model" / "model.tar").unlink()
    for seed in range(500):
        damaged = mutated_bytes(gzip.compress(whole) if is_packed and seed % 2 else whole, seed)
        if is_packed and not seed % 2:
            damaged = gzip.compress(damaged)
        (tmp_path / "model" / name).write_bytes(damaged)
        said = "unpacked"
        try:
            unpack_members(tmp_path / "model" / name, tmp_path / "unpacked", every)
        except BadInput as error:
            said = str(error)
        assert said.isprintable()
        found = {entry.name for entry in tmp_path.iterdir()}
        assert found <= {"model", "unpacked"}
        shutil.rmtree(tmp_path / "unpacked", ignore_errors=True)
