"""The checkpoint that a job begins from is found, and an archive is trusted with nothing else."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from regrow.data.errors import BadInput
from regrow.deploy.model_channel import warm_start

Archive = Callable[..., Path]


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


@pytest.fixture
def archive(channel: Path) -> Archive:
    """Give a maker of archives in the channel: contents or ready members by name."""

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


def linked(kind: bytes, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo("link.ckpt")
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
    ],
    ids=["parent", "absolute", "inner", "symlink", "hardlink", "device", "fifo"],
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
def test_a_torn_archive_is_named(archive: Archive, tmp_path: Path, share: float) -> None:
    packed = archive(**{"best.ckpt": os.urandom(50_000)})
    content = packed.read_bytes()
    packed.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadInput, match=r"model\.tar\.gz: cannot be unpacked"):
        warm_start(packed.parent, tmp_path / "unpacked")
    assert not list((tmp_path / "unpacked").glob("*"))


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
