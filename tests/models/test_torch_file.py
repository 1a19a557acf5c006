"""What torch.save wrote is read as it is, and a hostile file takes no memory, time or code."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models import torch_file
from regrow.models.torch_file import is_state_dict, read_torch


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        alike = one.dtype == other.dtype and one.stride() == other.stride()
        return alike and torch.equal(one.float(), other.float())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other


def test_plain_data_and_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    shared = torch.arange(6.0).view(2, 3)
    values = {
        "numbers": [1, -(2**62), 0.5, True, None, "text", b"bytes", {1, 2}, (3,), 1j],
        5: {"deep": [{"deeper": torch.Size([2, 3])}]},
        "net": nn.Conv2d(2, 3, 3).state_dict(),
        "views": [shared, shared.t(), shared[1:], shared.clone().to(torch.bfloat16)],
        "images": torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "types": [torch.tensor(n, dtype=d) for n, d in ((1, torch.int8), (2, torch.uint16))],
        "empty": torch.zeros(0, 3),
        "one": torch.zeros(1).expand(1, 1),
        "dtype": torch.float16,
    }
    torch.save(values, tmp_path / "a.pt")
    read = read_torch(tmp_path / "a.pt")
    assert _same(read, values)
    assert _same(read, torch.load(tmp_path / "a.pt", weights_only=True))
    tied = read["views"]
    assert tied[0].untyped_storage().data_ptr() == tied[1].untyped_storage().data_ptr()


def _sparse() -> Tensor:
    return torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (10**9,))


def _quantised() -> Tensor:
    return torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore")  # of a library's, about what it makes here
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.zeros(1).expand(10**11), "400,000,000,000 bytes is made of 4"),
        (lambda: torch.zeros(3).as_strided((2, 2), (1, 1)), "of 16 bytes is made of 12"),
        (lambda: torch.zeros(10**9, device="meta"), "one of its tensors is not a dense one .*meta"),
        (_sparse, "one of its tensors is not a dense one .*sparse"),
        (_quantised, "one of its tensors is not a dense one .*qtensor"),
        (lambda: 2**65, "a number of more than 64 bits"),
        (lambda: bytearray(3), "holds pickled code .*bytearray"),
        (lambda: torch.strided, "holds pickled code .*layout"),
    ],
)
def test_what_is_no_dense_tensor_is_refused(
    make: Callable[[], Any], message: str, tmp_path: Path
) -> None:
    torch.save({"weight": make()}, tmp_path / "a.pt")
    with pytest.raises(BadInput, match=rf"a\.pt: refused, .*{message}"):
        read_torch(tmp_path / "a.pt")


def test_values_that_are_one_value_again_and_again_are_refused(tmp_path: Path) -> None:
    laughs: list[Any] = ["ha"]
    for _ in range(40):
        laughs = [laughs, laughs]  # 2^40 values in a few hundred bytes
    torch.save(laughs, tmp_path / "a.pt")
    with pytest.raises(BadInput, match="more than 2,000,000 values"):
        read_torch(tmp_path / "a.pt")
    endless: list[Any] = []
    endless.append(endless)
    torch.save(endless, tmp_path / "b.pt")
    with pytest.raises(BadInput, match="or more than 64 in one another"):
        read_torch(tmp_path / "b.pt")
    same = torch.zeros(1000)
    torch.save([same] * 100, tmp_path / "c.pt")
    with pytest.raises(BadInput, match="show the same bytes again and again"):
        read_torch(tmp_path / "c.pt")
    torch.save([same] * 10, tmp_path / "d.pt")  # layers may share their weights
    assert len(read_torch(tmp_path / "d.pt")) == 10


def _records(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(path: Path, records: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save({"weight": torch.arange(1000.0)}, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def test_records_that_are_compressed_are_refused(saved: Path) -> None:
    records = _records(saved)
    assert _same(read_torch(_write(saved, records)), {"weight": torch.arange(1000.0)})
    with pytest.raises(BadInput, match=r"a\.pt: refused, its records are compressed"):
        read_torch(_write(saved, records, zipfile.ZIP_DEFLATED))
    with pytest.raises(BadInput, match=r"a\.pt: refused, its records are compressed"):
        read_torch(_write(saved, records, zipfile.ZIP_LZMA))


def test_records_that_lie_over_each_other_are_refused(saved: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        infos = archive.infolist()
    weight = next(info for info in infos if info.filename.endswith("/data/0"))
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("archive/data/0", bytes(4000))
        for number in range(1, 50):
            again = zipfile.ZipInfo(f"archive/data/{number}")
            again.file_size = again.compress_size = weight.file_size
            again.CRC, again.header_offset = archive.filelist[0].CRC, 0
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="its records lie over each other"):
        read_torch(tmp_path / "b.pt")


def test_archives_of_other_kinds_are_refused_in_one_line(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = _records(saved)
    script = {**records, "archive/constants.pkl": b"x", "archive/code/a.py": b"import os"}
    with pytest.raises(
        BadInput, match=r"a TorchScript archive holds code; save its state_dict\(\)"
    ):
        read_torch(_write(tmp_path / "b.pt", script))
    torch.save({"w": torch.zeros(2)}, tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(BadInput, match=r"format of before 1\.6 can be used once it is saved anew"):
        read_torch(tmp_path / "c.pt")
    monkeypatch.setattr(torch_file, "MAX_PICKLE", 100)
    with pytest.raises(BadInput, match="refused, .* bytes of it are a pickle"):
        read_torch(saved)
    monkeypatch.setattr(torch_file, "MAX_RECORDS", 2)
    with pytest.raises(BadInput, match=r"refused, it has \d records, above 2"):
        read_torch(saved)


def test_a_flipped_bit_of_a_weight_is_found(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    place = content.find(torch.arange(1000.0).numpy().tobytes())
    content[place + 17] ^= 1
    saved.write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.pt: truncated or damaged"):
        read_torch(saved)


def test_a_config_is_named_as_one(tmp_path: Path) -> None:
    for name in ("config.yaml", "report.json"):
        (tmp_path / name).write_text("fit: {epochs: 1}\n")
        with pytest.raises(BadInput, match=rf"{name}: a config where a checkpoint belongs; give"):
            read_torch(tmp_path / name)


def test_tensors_that_lie_about_their_storage_are_refused(saved: Path, tmp_path: Path) -> None:
    records = _records(saved)
    pickled = records["a/data.pkl"]
    lies = pickled.replace(b"M\xe8\x03", b"M\xff\xff")  # 1,000 as it is pickled, and 65,535
    assert lies != pickled
    with pytest.raises(BadInput, match=r"b\.pt: (truncated|refused)"):
        read_torch(_write(tmp_path / "b.pt", {**records, "a/data.pkl": lies}))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ckpt")
    (tmp_path / "folder.ckpt").mkdir()
    for path in (tmp_path / "pipe.ckpt", tmp_path / "folder.ckpt", Path("/dev/zero")):
        with pytest.raises(BadInput, match=f"{path}: no such file"):
            read_torch(path)


def test_a_pickle_that_calls_for_memory_gets_none(tmp_path: Path) -> None:
    """`bytearray(2**36)` and `torch.FloatTensor(2**34)` are calls that torch itself allows."""
    for name, size in ((b"builtins\nbytearray", 2**36), (b"torch\nFloatTensor", 2**34)):
        pickled = b"\x80\x02c" + name + b"\n\x8a\x05" + size.to_bytes(5, "little") + b"\x85R."
        records = {"a/data.pkl": pickled, "a/version": b"3\n", "a/byteorder": b"little"}
        with pytest.raises(BadInput, match="refused, it holds pickled code"):
            read_torch(_write(tmp_path / "b.pt", records))


def test_compressed_records_are_never_unpacked(saved: Path, tmp_path: Path) -> None:
    records = _records(saved)
    path = tmp_path / "b.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            with archive.open(name, "w") as record:
                record.write(content)
                for _ in range(16 if name.endswith("data.pkl") else 0):
                    record.write(bytes(2**24))
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from regrow.errors import BadInput; from regrow.models.torch_file import read_torch\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: read_torch(Path(sys.argv[1]))\n"
        "except BadInput: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    line = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50_000  # kilobytes


def test_state_dicts_are_tensors_by_name() -> None:
    assert is_state_dict(nn.Linear(1, 1).state_dict())
    assert not is_state_dict({"a": 1})
    assert not is_state_dict({1: torch.zeros(1)})
    assert not is_state_dict([torch.zeros(1)])
