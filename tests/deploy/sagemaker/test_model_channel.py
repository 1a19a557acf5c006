"""What a job begins from is found, and an archive is trusted with nothing else."""

import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from regrow.deploy import archives
from regrow.deploy.sagemaker.model_channel import warm_start
from regrow.errors import BadInput

Archive = Callable[..., Path]


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


@pytest.fixture
def archive(channel: Path) -> Archive:
    """Return a maker of archives in the channel: contents or ready members by name."""

    def make(name: str = "model.tar.gz", /, **members: bytes | tarfile.TarInfo) -> Path:
        with tarfile.open(channel / name, "w:gz" if name.endswith("gz") else "w") as packed:
            for member, content in members.items():
                if isinstance(content, tarfile.TarInfo):
                    packed.addfile(content)
                    continue
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                packed.addfile(entry, io.BytesIO(content))
        return channel / name

    return make


def test_what_was_shipped_comes_first(channel: Path, tmp_path: Path) -> None:
    for wanted in ("last.ckpt", "best.ckpt", "deep/pruned.ckpt"):
        file = channel / wanted
        file.parent.mkdir(exist_ok=True)
        file.touch()
        assert warm_start(channel, tmp_path / "unpacked") == file
    assert not (tmp_path / "unpacked").exists()


def test_a_checkpoint_alone_may_have_any_name(channel: Path, tmp_path: Path) -> None:
    (channel / "mine.ckpt").touch()
    assert warm_start(channel, tmp_path) == channel / "mine.ckpt"


@pytest.mark.parametrize("name", ["model.tar.gz", "model.tgz", "model.tar"])
def test_of_an_archive_one_file_is_unpacked(archive: Archive, tmp_path: Path, name: str) -> None:
    packed = archive(
        name,
        **{"last.ckpt": b"last", "./code/best.ckpt": b"the one", "model.onnx": b"graph"},
    )
    found = warm_start(packed.parent, tmp_path / "unpacked")
    assert found == tmp_path / "unpacked" / "warm_start.ckpt"
    assert found.read_bytes() == b"the one"
    assert list(found.parent.iterdir()) == [found]


def test_the_memory_beside_the_checkpoint_comes_along(archive: Archive, tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    packed = archive(
        **{
            "memory/snapshot.json": b"of another",
            "run/memory/images/0.png": b"pixels",
            "./run/best.ckpt": b"the one",
            "./run/memory/snapshot.json": b"{}",
            "run/memory.txt": b"",
            "run/deep/memory/0.png": b"",
        },
    )
    found = warm_start(packed.parent, folder)
    assert found.read_bytes() == b"the one"
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.*")}
    assert sorted(files) == ["memory/images/0.png", "memory/snapshot.json", "warm_start.ckpt"]
    assert files["memory/images/0.png"].read_bytes() == b"pixels"
    assert files["memory/snapshot.json"].read_bytes() == b"{}"
    # The next archive has none, and must not be taken to have that one.
    packed.unlink()
    warm_start(archive("model.tar", **{"best.ckpt": b"next"}).parent, folder)
    assert found.read_bytes() == b"next"
    assert list(folder.iterdir()) == [found]


def test_what_is_unpacked_already_stays(archive: Archive, tmp_path: Path) -> None:
    channel = archive(**{"best.ckpt": b"the one"}).parent
    found = warm_start(channel, tmp_path / "unpacked", unpack=False)
    assert not found.parent.exists()
    assert warm_start(channel, tmp_path / "unpacked") == found


def test_a_checkpoint_beside_an_archive_comes_first(archive: Archive, tmp_path: Path) -> None:
    channel = archive(**{"best.ckpt": b"packed"}).parent
    (channel / "best.ckpt").touch()
    assert warm_start(channel, tmp_path) == channel / "best.ckpt"


@pytest.mark.parametrize("names", [[], ["one.ckpt", "two.ckpt"], ["a/best.ckpt", "b/best.ckpt"]])
def test_what_cannot_be_told_apart_is_refused(
    channel: Path, archive: Archive, tmp_path: Path, names: list[str]
) -> None:
    found = ", ".join(names) or "none"
    packed = archive("model.tar", **dict.fromkeys(names, b""))
    with pytest.raises(BadInput, match=f"needs one checkpoint named pruned.*it has {found}"):
        warm_start(channel, tmp_path)
    packed.unlink()
    for name in names:
        (channel / name).parent.mkdir(exist_ok=True)
        (channel / name).touch()
    with pytest.raises(BadInput, match=f"needs one checkpoint named pruned.*it has {found}"):
        warm_start(channel, tmp_path)


def test_two_archives_are_refused(archive: Archive, tmp_path: Path) -> None:
    archive("a.tar.gz")
    channel = archive("b.tar.gz").parent
    with pytest.raises(BadInput, match="channel model: 2 archives in it; leave one"):
        warm_start(channel, tmp_path)


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
    channel = archive(**members).parent
    with pytest.raises(BadInput, match="refused, its member .* is a link, a device or leads out"):
        warm_start(channel, tmp_path / "unpacked")
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
        warm_start(packed.parent, tmp_path / "unpacked")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_names_in_a_memory_that_cannot_be_together_are_named(
    archive: Archive, tmp_path: Path
) -> None:
    members = {"best.ckpt": b"x", "memory/a": b"a file", "memory/a/b": b"below it"}
    with pytest.raises(BadInput, match=r"model\.tar\.gz: cannot be unpacked"):
        warm_start(archive(**members).parent, tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_what_is_no_archive_is_named(channel: Path, tmp_path: Path) -> None:
    (channel / "model.tar.gz").write_bytes(b"<html>")
    with pytest.raises(BadInput, match="give a training job's model.tar.gz"):
        warm_start(channel, tmp_path)


def test_a_model_of_a_built_in_algorithm_is_refused(
    channel: Path, archive: Archive, tmp_path: Path
) -> None:
    archive(**{"model_algo_1-0000.params": b"", "model_algo_1-symbol.json": b"{}"})
    with pytest.raises(
        BadInput, match="model_algo_1-0000.params is of MXNet, whose weights regrow"
    ):
        warm_start(channel, tmp_path)


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
        warm_start(channel, tmp_path / "unpacked")
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
        warm_start(channel, tmp_path / "unpacked")


def test_a_member_with_holes_is_refused(channel: Path, tmp_path: Path) -> None:
    header = bytearray(_header("best.ckpt", 0, tarfile.GNUTYPE_SPARSE))
    header[483:495] = b"%011o\0" % (2**32)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (channel / "model.tar").write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(BadInput, match="or has holes"):
        warm_start(channel, tmp_path / "unpacked")


def test_what_does_not_fit_on_the_disk_is_refused_before_it_is_written(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = archive(**{"best.ckpt": b"x" * 1000, "code.py": b"y" * 1000})
    full = shutil.disk_usage(tmp_path)._replace(free=999)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: full)
    with pytest.raises(BadInput, match="its 1,000 bytes do not fit into .*, which has 999"):
        warm_start(packed.parent, tmp_path / "unpacked")


def test_too_many_members_are_refused(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "NUM_MEMBERS", 3)
    packed = archive(**{"best.ckpt": b"x", **{f"memory/{n}": b"" for n in range(3)}})
    with pytest.raises(BadInput, match="more than 3 members"):
        warm_start(packed.parent, tmp_path / "unpacked")


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
            warm_start(tmp_path / "model", tmp_path / "unpacked")
        except BadInput as error:
            said = str(error)
        assert said.isprintable()
        found = {entry.name for entry in tmp_path.iterdir()}
        assert found <= {"model", "unpacked"}
        shutil.rmtree(tmp_path / "unpacked", ignore_errors=True)
