"""What lies in examples/ runs as a user would start it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from regrow.models.checkpoint import load

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(file: Path, *words: str, at: Path) -> str:
    """Run a file as a child process, in a folder, and return what it prints."""
    line = [sys.executable, str(file), *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    shown = subprocess.run(line, cwd=at, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout


def test_every_example_is_run_here() -> None:
    tested = Path(__file__).read_text() + (ROOT / "tests" / "test_docs.py").read_text()
    files = [file for file in EXAMPLES.iterdir() if file.suffix in (".py", ".ipynb")]
    assert len(files) == 5
    assert all(f'"{file.name}"' in tested for file in files)


def test_quickstart_trains_grows_prunes_and_exports(tmp_path: Path) -> None:
    shown = run(EXAMPLES / "quickstart.py", at=tmp_path)
    said = re.search(r"^model.onnx scores (\d\.\d+)", shown, re.MULTILINE)
    assert said is not None
    assert float(said[1]) > 0.9
    runs = tmp_path / "runs" / "quickstart"
    young, grown = (load(runs / name / "best.ckpt") for name in ("train", "grow"))
    assert young.classes == grown.classes[:8]
    assert len(grown.classes) == 10
    session = onnxruntime.InferenceSession(str(runs / "export" / "model.onnx"))
    (chances,) = session.run(None, {"images": np.zeros((3, 3, 32, 32), np.uint8)})
    assert chances.shape == (3, 10)


def test_quickstart_is_short() -> None:
    lines = (EXAMPLES / "quickstart.py").read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(("#", '"""'))]
    assert len(code) <= 16


@pytest.mark.slow
def test_own_loop_goes_on_after_the_cut(tmp_path: Path) -> None:
    shown = run(EXAMPLES / "own_loop.py", at=tmp_path)
    said = re.search(r"([\d,]+) -> ([\d,]+) MACs; ([\d.]+)%", shown)
    assert said is not None
    before, after = (int(said[n].replace(",", "")) for n in (1, 2))
    # A quarter of both sides of most layers: nine sixteenths, and a little.
    assert 0.5 < after / before < 0.62
    # Ten classes: guessing gets a tenth.
    assert float(said[3]) > 50


@pytest.mark.slow
def test_notebook_runs_and_holds_no_outputs(tmp_path: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    file = EXAMPLES / "notebook.ipynb"
    cells = json.loads(file.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    notebook = nbformat.read(file, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    pictures = [out for out in shown if "image/png" in out.get("data", {})]
    assert len(pictures) == 3
    with Image.open(tmp_path / "runs" / "notebook" / "curve.png") as curve:
        assert np.asarray(curve).std() > 0
