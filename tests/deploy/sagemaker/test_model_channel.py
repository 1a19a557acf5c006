"""What a job begins from is found, and an archive is trusted with nothing else."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from regrow.deploy.sagemaker.model_channel import warm_start
from regrow.errors import BadInput

Archive = Callable[..., Path]


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


def test_a_model_of_a_built_in_algorithm_is_refused(
    channel: Path, archive: Archive, tmp_path: Path
) -> None:
    archive(**{"model_algo_1-0000.params": b"", "model_algo_1-symbol.json": b"{}"})
    with pytest.raises(
        BadInput, match="model_algo_1-0000.params is of MXNet, whose weights regrow"
    ):
        warm_start(channel, tmp_path)
