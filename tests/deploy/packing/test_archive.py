"""An archive's bytes depend on nothing but what is packed."""

import io
import os
import tarfile
from pathlib import Path

from regrow.deploy.packing.archive import write_archive


def _packed(members: dict[str, str | Path]) -> bytes:
    file = io.BytesIO()
    write_archive(file, members)
    return file.getvalue()


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.onnx", tmp_path / "other" / "b.onnx"
    second.parent.mkdir()
    first.write_bytes(bytes(range(256)) * 1000)
    second.write_bytes(first.read_bytes())
    os.utime(second, (1, 1))
    second.chmod(0o600)
    one = _packed({"model.onnx": first, "code/x.py": "é\n"})
    assert _packed({"code/x.py": "é\n", "model.onnx": second}) == one
    assert _packed({"code/x.py": "e\n", "model.onnx": second}) != one


def test_members_are_whole_and_belong_to_nobody(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "m").write_bytes(content)
    with tarfile.open(fileobj=io.BytesIO(_packed({"b/x": "é", "a": tmp_path / "m"}))) as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == ["a", "b/x"]
        for member in members:
            assert (member.uid, member.gid, member.mtime, member.uname) == (0, 0, 0, "")
            assert member.isreg()
            assert member.mode == 0o644
        read = [file.read() for file in map(archive.extractfile, members) if file is not None]
    assert read == [content, "é".encode()]
