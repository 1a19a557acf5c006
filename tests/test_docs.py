"""What README and docs/ name exists: links, options, configs, import paths; their examples run."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import regrow.configs
from regrow.data.config import DATA_CHOICES
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.onnx.graph import export_graph
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.pipelines.commands import CRITERIA, TASKS
from regrow.pipelines.demo import run_demo
from regrow.pipelines.experiments.compare_dropout import run_comparison
from regrow.pipelines.experiments.compare_retraining import run_retraining
from regrow.pipelines.export import run_export
from regrow.pipelines.lineage_table import run_lineage
from regrow.pipelines.monitor import run_monitor
from regrow.pipelines.monitoring.baseline import run_baseline
from regrow.pipelines.monitoring.extract import run_extract
from regrow.pipelines.monitoring.schedule import run_schedule
from regrow.pipelines.prune import run_pruning
from regrow.pipelines.replay import run_replay
from regrow.pipelines.serve import run_server
from regrow.pipelines.train import run_training

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
CONFIGS = sorted(path.name for path in Path(regrow.configs.__file__).parent.glob("*.yaml"))


def test_there_are_pages() -> None:
    assert len(PAGES) >= 20
    nav = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        if page.is_relative_to(ROOT / "docs"):
            assert f": {page.relative_to(ROOT / 'docs').as_posix()}\n" in nav


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 150


# Links.


def _anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as both GitHub and mkdocs make them."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", head.lower()).strip() for head in heads]
    return {re.sub(r"\s+", "-", head) for head in plain}


@pytest.mark.parametrize("name", TEXTS)
def test_links_resolve(name: str) -> None:
    text = re.sub(r"```.*?```", "", TEXTS[name], flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = ((ROOT / name).parent / target).resolve() if target else ROOT / name
        assert file.exists(), link
        if anchor:
            assert anchor in _anchors(file.read_text()), link


def test_pictures_are_small() -> None:
    pictures = [file for file in (ROOT / "docs" / "images").iterdir() if file.is_file()]
    assert pictures
    assert sum(file.stat().st_size for file in pictures) < 300_000
    for file in pictures:
        with Image.open(file) as picture:
            assert min(picture.size) > 300
        assert any(f"images/{file.name}" in text for text in TEXTS.values()), file.name


# Options.

FUNCTIONS = [
    run_training, run_pruning, run_export, run_lineage, run_comparison, run_retraining, run_demo,
    run_server,
    run_baseline, run_extract, run_monitor, run_schedule,
    run_replay,
]  # fmt: skip
OF_TOOLS = {"help", "config", "print_config", "logdir", "config-settings"}
OTHER_PROGRAMS = r"trtexec|benchmarks/|\baws |`tritonserver |\bcurl\b|\bpip\b|\bpytest\b|\bmkdocs\b"
CHOICES: dict[str, list[type]] = {
    **{name: list(classes) for name, classes in DATA_CHOICES.items()},
    "task": TASKS,
    "criterion": CRITERIA,
}


def _classes(annotation: Any) -> Iterator[type]:
    """List our classes in an annotation: `X`, `X | None`, `list[X]`."""
    if get_origin(annotation) in (Union, UnionType, list, tuple):
        for part in get_args(annotation):
            yield from _classes(part)
    elif inspect.isclass(annotation) and annotation.__module__.startswith("regrow."):
        yield annotation


def _parameters(owner: Any) -> dict[str, Any]:
    """Return what a function or a class takes, with its annotations; `**kwargs` go to the base."""
    found: dict[str, Any] = {}
    owners = [c for c in owner.__mro__ if c is not object] if inspect.isclass(owner) else [owner]
    for one in owners:
        init = one.__init__ if inspect.isclass(one) else one
        if inspect.isclass(one) and not is_dataclass(one) and "__init__" not in vars(one):
            continue
        hints = get_type_hints(init)
        names = inspect.signature(init).parameters.values()
        found = {p.name.removesuffix("_"): hints.get(p.name) for p in names} | found
        if not any(p.kind is p.VAR_KEYWORD for p in names):
            break
    return found


def is_option(option: str) -> bool:
    """Whether a command has an option, by the signatures of the pipelines."""
    name, *rest = option.split(".")
    owners: list[Any] = [function for function in FUNCTIONS if name in _parameters(function)]
    path = name
    for step in rest:
        annotations = [_parameters(owner)[name] for owner in owners]
        if any(get_origin(part) is dict for a in annotations for part in (a, *get_args(a))):
            return True  # a mapping, whose keys are the user's
        owners = [*CHOICES.get(path, []), *(c for a in annotations for c in _classes(a))]
        owners = [owner for owner in owners if step in _parameters(owner)]
        name, path = step, f"{path}.{step}"
    return bool(owners)


def test_options_are_told_from_inventions() -> None:
    assert is_option("data.val_share")
    assert is_option("task.optimization.lr")
    assert is_option("growth.mixing.new_share")
    assert is_option("fit.trainer.min_epochs")
    assert not is_option("data.validation_share")
    assert not is_option("task.optimization.rate")
    assert not is_option("warm")


@pytest.mark.parametrize("name", TEXTS)
def test_named_options_exist(name: str) -> None:
    text = TEXTS[name].replace("\\\n", " ")
    text = re.sub(rf"^.*(?:{OTHER_PROGRAMS}).*$", "", text, flags=re.MULTILINE)
    for option in re.findall(r"(?<![\w-])--([a-z][\w.-]*)", text):
        if option.rstrip(".") not in OF_TOOLS:
            assert is_option(option.rstrip(".").replace("-", "_")), option


# Configs and import paths.

# Keys of an ONNX file's metadata, which look like modules.
METADATA = {
    f"regrow.{name}"
    for name in ("task", "kind", "size", "classes", "input", "outputs", "suppression", "version")
}


def test_every_config_is_in_the_index_and_says_how_it_is_run() -> None:
    index = TEXTS["docs/configs.md"]
    named = set(re.findall(r"`(\w+\.yaml)`", index)) - {"data.yaml"}
    assert named == set(CONFIGS)
    for name in CONFIGS:
        lines = (ROOT / "configs" / name).read_text().splitlines()
        header = "\n".join(takewhile(lambda line: line.startswith("# "), lines))
        assert f"configs/{name}" in header or "laid over" in header, name
        if not name.startswith("compare") and "laid over" not in header:
            assert re.search("^# (Expect|Not measured)", header, re.MULTILINE), name


@pytest.mark.parametrize("name", TEXTS)
def test_named_configs_and_examples_exist(name: str) -> None:
    pattern = r"(?<![\w/])(?:configs|examples|scripts|benchmarks|tests)/[\w/]+\.\w+"
    for file in re.findall(pattern, TEXTS[name]):
        assert (ROOT / file).is_file(), file


def test_the_files_that_the_architecture_walks_through_exist() -> None:
    text = TEXTS["docs/architecture.md"]
    files = [file.relative_to(ROOT).as_posix() for file in ROOT.glob("[!.]*/**/*.py")]
    named = set(re.findall(r"`([\w/]+\.py)`", text))
    assert len(named) > 30
    for name in named:
        assert any(f"/{file}".endswith(f"/{name}") for file in files), name


def test_the_architecture_has_every_room() -> None:
    text = TEXTS["docs/architecture.md"]
    for file in ROOT.glob("[!.]*/**/__init__.py"):
        room = file.parent.relative_to(ROOT)
        assert f"`{room.name}/`" in text, room


@pytest.mark.parametrize("name", TEXTS)
def test_named_import_paths_exist(name: str) -> None:
    for path in set(re.findall(r"(?<![\w-])regrow(?:\.\w+)+(?=`|\s|:\w)", TEXTS[name])):
        head, _, last = path.rpartition(".")
        if path in METADATA:
            continue
        try:
            import_module(path)
        except ModuleNotFoundError:
            assert hasattr(import_module(head), last), path


@pytest.mark.parametrize("name", TEXTS)
def test_python_in_the_pages_is_python(name: str) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", TEXTS[name], re.DOTALL | re.MULTILINE):
        compile(block, name, "exec")


# The examples that feed an exported file.

TASK_OF = {"labels": Classification, "boxes": Detection, "masks": Segmentation}
SIZE = (64, 96)


def _export(kind: str, folder: Path, **options: Any) -> Task:
    """Write the graph of an untrained network, and return the network."""
    torch.manual_seed(0)
    net = "fcos" if kind == "boxes" else "small"
    task = TASK_OF[kind](["a", "b", "c"], SIZE, net=net).eval()
    if kind == "boxes":  # scores of all sizes, which differ
        torch.nn.init.normal_(task.net.cls_logits.weight, std=0.5)
        torch.nn.init.zeros_(task.net.cls_logits.bias)
    export_graph(task, folder / "model.onnx", **options)
    return task


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Task, Path]]:
    """Return a network of each kind, and the folder that its file lies in."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in TASK_OF}
    return {kind: (_export(kind, folder), folder) for kind, folder in folders.items()}


def _photo(file: Path, size: tuple[int, int]) -> np.ndarray:
    """Write noise that is smooth enough to be resized, (h, w)."""
    random = np.random.default_rng(0)
    small = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    image = small.resize(size[::-1], Image.Resampling.BICUBIC)
    image.save(file)
    return np.asarray(image)


def _shown(script: str, folder: Path) -> list[str]:
    line = [sys.executable, str(EXAMPLES / script), "model.onnx", "photo.png"]
    shown = subprocess.run(line, cwd=folder, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.splitlines()


def _predicted(task: Task, image: np.ndarray) -> Any:
    images = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        return task.predict(task(images))


def _names_the_class(task: Task, folder: Path) -> bool:
    chances = _predicted(task, _photo(folder / "photo.png", SIZE))[0]
    best = int(chances.argmax())
    return _shown("predict.py", folder) == [f"{task.classes[best]} {chances[best]:.3f}"]


def test_the_pillow_example_names_the_class(exported, tmp_path: Path) -> None:
    assert _names_the_class(*exported["labels"])
    assert _names_the_class(_export("labels", tmp_path, input_type="float32"), tmp_path)


def test_the_pillow_example_puts_boxes_into_the_photo(exported) -> None:
    task, folder = exported["boxes"]
    image = _photo(folder / "photo.png", (128, 288))  # twice as high, three times as wide
    pixels = np.asarray(Image.fromarray(image).resize(SIZE[::-1], Image.Resampling.BILINEAR))
    (found,) = _predicted(task, pixels)
    lines = _shown("predict.py", folder)
    read = [[float(n) for n in re.findall(r"-?\d+\.\d+", line)] for line in lines]
    assert len(read) == len(found["scores"]) > 3
    assert [values[0] for values in read] == sorted((v[0] for v in read), reverse=True)
    scale = torch.tensor([3, 2, 3, 2])
    wanted = torch.cat([found["scores"][:, None], found["boxes"] * scale], dim=1)
    names = [task.classes[label] for label in found["labels"]]
    # To the last digit that is printed, and a hair of the runtime's own.
    matched = [
        any(
            line.startswith(f"{name} ") and torch.allclose(torch.tensor(values), row, atol=0.06)
            for name, row in zip(names, wanted, strict=True)
        )
        for line, values in zip(lines, read, strict=True)
    ]
    assert all(matched)


def test_the_pillow_example_writes_the_mask(exported) -> None:
    task, folder = exported["masks"]
    wanted = _predicted(task, _photo(folder / "photo.png", SIZE))[0].numpy()
    lines = _shown("predict.py", folder)
    with Image.open(folder / "mask.png") as mask:
        assert np.array_equal(np.asarray(mask), wanted)
    shares = [f"{name} {(wanted == n).mean():.3f}" for n, name in enumerate(task.classes)]
    assert lines == shares


def test_the_opencv_example_finds_the_same_boxes(exported) -> None:
    pytest.importorskip("cv2")
    task, folder = exported["boxes"]
    (found,) = _predicted(task, _photo(folder / "photo.png", SIZE))
    lines = _shown("predict_opencv.py", folder)
    wanted = {
        f"{task.classes[label]} {score:.2f} at {', '.join(str(round(v)) for v in box.tolist())}"
        for score, label, box in zip(found["scores"], found["labels"], found["boxes"], strict=True)
        if score >= 0.4
    }
    assert len(wanted) > 3
    assert len(wanted & set(lines)) >= 0.9 * len(wanted)  # but for roundings
    assert (folder / "predicted.png").is_file()


@pytest.mark.parametrize("kind", TASK_OF)
def test_the_outputs_that_the_page_names_are_those_of_the_file(exported, kind: str) -> None:
    text = TEXTS["docs/export.md"]
    session = onnxruntime.InferenceSession(str(exported[kind][1] / "model.onnx"))
    for output in session.get_outputs():
        assert f"| `{output.name}` | (" in text
    entries = session.get_modelmeta().custom_metadata_map
    assert all(f"`{name}`" in text for name in entries if name.startswith("regrow."))
