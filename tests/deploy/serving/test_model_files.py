"""A model is found in whatever holds it, or the one line says what is there instead."""

import io
import json
import tarfile
from pathlib import Path

import pytest
import yaml

from regrow.deploy.serving.model_files import Found, decoding_of, find_model
from regrow.errors import BadInput


def promoted(file: Path) -> Path:
    """Read the stand-in for a promotion: the name of a file beside it."""
    return file.parent / file.read_text()


def found(path: Path) -> Found:
    return find_model(path, path.parent / "unpacked", promoted)


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def packed(file: Path, *names: str) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return file


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["model.onnx", "best.ckpt"], "model.onnx"),
        (["last.ckpt", "best.ckpt"], "best.ckpt"),
        (["pruned.ckpt", "best.ckpt", "other.ckpt"], "pruned.ckpt"),
        (["mine.onnx", "notes.txt"], "mine.onnx"),
        (["model/model.onnx", ".hidden/a.onnx", "readme"], "model/model.onnx"),
    ],
)
def test_the_model_of_a_folder(tmp_path: Path, names: list[str], taken: str) -> None:
    assert found(filled(tmp_path / "run", *names)) == Found(tmp_path / "run" / taken)


def test_what_a_promotion_names_comes_first_and_says_where_it_stands(tmp_path: Path) -> None:
    run = filled(tmp_path / "run", "model.onnx", "best.ckpt")
    (run / "promoted.json").write_text("best.ckpt")
    named = Found(run / "best.ckpt", run / "promoted.json")
    assert found(run) == found(run / "promoted.json") == named


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no model in it, it holds nothing; give a run folder"),
        (["a.txt", "b/c.txt", "d/model.onnx"], "no model in it, it holds a.txt, b, d"),
        (["a/b/model.onnx"], "no model in it, it holds b"),
        (["a.onnx", "b.ckpt"], r"holds several models \(a.onnx, b.ckpt\); name one of them"),
    ],
)
def test_folders_without_one_model(tmp_path: Path, names: list[str], said: str) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(BadInput, match=said):
        found(filled(tmp_path / "run", *names))


def test_a_run_whose_gate_is_shut_is_not_served_unasked(tmp_path: Path) -> None:
    run = filled(tmp_path / "run", "best.ckpt")
    (run / "report.json").write_text(json.dumps({"gate": {"reasons": ["worse on old images"]}}))
    with pytest.raises(BadInput, match=r"the gate of this run is shut \(\['worse on old images'\]"):
        found(run)
    assert found(run / "best.ckpt") == Found(run / "best.ckpt")
    (run / "report.json").write_text(json.dumps({"gate": {"reasons": []}}))
    assert found(run) == Found(run / "best.ckpt")


@pytest.mark.parametrize(
    "names",
    [
        ["model.onnx", "data.yaml", "memory/0.png"],
        ["./model.onnx", "./._model.onnx"],
        ["model/model.onnx", "model/code/inference.py"],
        ["x/", "model.onnx"],
    ],
)
def test_the_model_of_an_archive(tmp_path: Path, names: list[str]) -> None:
    archive = packed(tmp_path / "model.tar.gz", *[name for name in names if name[-1] != "/"])
    file = found(archive).file
    assert file.name == "model.onnx"
    assert file.is_relative_to(tmp_path / "unpacked")
    kept = {path.name for path in (tmp_path / "unpacked").rglob("*") if path.is_file()}
    assert kept <= {"model.onnx", "data.yaml"}
    folder = filled(tmp_path / "channel", "notes.txt")
    archive.rename(folder / "model.tar.gz")
    assert find_model(folder, tmp_path / "again", promoted).file.read_bytes() == file.read_bytes()


def test_an_archive_that_leads_out_of_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"its member '../model.onnx' is a link, a device or leads"):
        found(packed(tmp_path / "a.tar.gz", "../model.onnx"))
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("model.onnx")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(BadInput, match="its member 'model.onnx' is a link"):
        found(tmp_path / "b.tar.gz")
    (tmp_path / "c.tar.gz").write_bytes(b"no archive")
    with pytest.raises(BadInput, match=r"c.tar.gz: cannot be unpacked"):
        found(tmp_path / "c.tar.gz")
    with pytest.raises(BadInput, match=r"d.tar.gz: no model in it, it holds nothing"):
        found(packed(tmp_path / "d.tar.gz", "a.txt"))


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone: no such file or folder; give a run folder"):
        found(tmp_path / "gone")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(BadInput, match=r"a.txt: no model; give a run folder"):
        found(tmp_path / "a.txt")


def test_the_grey_range_of_the_data_is_that_of_the_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = filled(tmp_path, "best.ckpt") / "best.ckpt"
    assert decoding_of(file).grey_range is None
    data = {
        "source": {"class_path": "regrow.data.formats.ImageFolder"},
        "root": str(tmp_path),
        "grey_range": [10, 4000],
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": data}))
    assert decoding_of(file).grey_range == (10, 4000)
    data["source"] = {"class_path": "os.Mine"}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": data}))
    assert decoding_of(file).grey_range is None
    assert "16-bit grey pictures are read as if" in capsys.readouterr().err
