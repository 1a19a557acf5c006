"""Bad input: one line that names the thing, exit code 2, nothing overwritten."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.pipelines import commands
from regrow.reporting.run_folder import open_run
from regrow.scripts import train

Words = Callable[..., list[str]]
Folder = Callable[..., Path]
Refused = Callable[[list[str]], str]


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Return a function that runs the command, checks how it ends, and returns the line it said."""
    kept = tmp_path / "run" / "best.ckpt"
    open_run(kept.parent)
    kept.write_text("an earlier run")

    def call(words: list[str]) -> str:
        capsys.readouterr()
        assert train.main(words) == 2
        *remarks, said = capsys.readouterr().err.strip().splitlines()
        assert said.startswith("error: ")
        assert not [line for line in remarks if not line.startswith(f"{tmp_path / 'data'}")]
        assert kept.read_text() == "an earlier run"
        assert [entry.name for entry in tmp_path.glob("run*")] == ["run"]
        return said

    return call


def test_an_empty_folder(words: Words, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(words(tmp_path / "empty"))


def test_a_folder_that_is_not_there(words: Words, refused: Refused, tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused(words(tmp_path / "nowhere"))


def test_a_truncated_image(folder: Folder, words: Words, refused: Refused) -> None:
    root = folder()
    broken = root / "train" / "red" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    said = refused(words(root))
    assert str(broken) in said
    assert "skip_corrupt" in said


def test_a_corrupt_image_is_skipped_and_counted(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    root = folder()
    (root / "train" / "red" / "3.png").write_bytes(b"not an image")
    report = commands.train(words(root, "run", "--data.skip_corrupt=true"))
    assert report.figures["data"]["num_skipped"] == 1
    assert "train/red/3.png" in (tmp_path / "run" / "report.md").read_text()


def test_no_images_to_validate_on(folder: Folder, words: Words, refused: Refused) -> None:
    root = folder()
    for split in ("val", "test"):
        for path in sorted((root / split).rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (root / split).rmdir()
    said = refused(words(root, "run", "--data.val_share=0"))
    assert "val_share" in said


def masks(root: Path, shape: tuple[int, int] = (32, 32), number: int = 1) -> list[str]:
    for split in ("train", "val", "test"):
        (root / "images" / split).mkdir(parents=True)
        (root / "masks" / split).mkdir(parents=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(root / "images" / split / "a.png")
        Image.fromarray(np.full(shape, number, np.uint8)).save(root / "masks" / split / "a.png")
    (root / "classes.json").write_text(json.dumps(["road", "sky"]))
    run = root.parent / "run"
    source = ["--data.source=regrow.data.formats.Masks", f"--data.root={root}"]
    return ["--config=configs/segmentation.yaml", *source, f"--run={run}"]


def test_a_mask_of_another_size(refused: Refused, tmp_path: Path) -> None:
    said = refused(masks(tmp_path / "data", shape=(16, 32)))
    assert "a.png: the mask is 32x16, the image 32x32" in said


def test_a_pixel_of_no_class(refused: Refused, tmp_path: Path) -> None:
    said = refused(masks(tmp_path / "data", number=7))
    assert "a.png" in said
    assert "7" in said


def coco(
    root: Path,
    box: tuple[int, int, int, int] = (4, 4, 8, 8),
    numbers: tuple[int, ...] = (1,),
    names: tuple[str, ...] = ("cell",),
) -> list[str]:
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    for split in ("train", "val", "test"):
        (root / "images" / split).mkdir(parents=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(root / "images" / split / "a.png")
        content = {
            "images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 32}],
            "annotations": [
                {"id": 5, "image_id": 1, "category_id": number, "bbox": list(box)}
                for number in numbers
            ],
            "categories": categories,
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    source = ["--data.source=regrow.data.formats.Coco", f"--data.root={root}"]
    return ["--config=configs/detection.yaml", *source, f"--run={root.parent / 'run'}"]


def test_a_box_outside_of_its_image(refused: Refused, tmp_path: Path) -> None:
    said = refused(coco(tmp_path / "data", box=(20, 4, 20, 8)))
    assert "a.png: the box (20, 4, 40, 12) is empty or outside of its image of 32x32" in said


def test_a_label_that_is_no_class(refused: Refused, tmp_path: Path) -> None:
    said = refused(coco(tmp_path / "data", numbers=(9,)))
    assert "instances_train.json: annotation 5 has the category 9" in said


def test_a_class_named_twice(refused: Refused, tmp_path: Path) -> None:
    said = refused(coco(tmp_path / "data", names=("cell", "cell")))
    assert "instances_train.json" in said
    assert "cell is named twice" in said


def test_a_label_outside_of_the_classes_asked_for(
    folder: Folder, words: Words, refused: Refused
) -> None:
    said = refused(words(folder(), "run", '--data.classes=["red"]'))
    assert "'green'" in said


@pytest.mark.parametrize("option", ["--warm-start", "--resume"])
def test_checkpoints_that_cannot_be_used(
    folder: Folder, words: Words, refused: Refused, tmp_path: Path, option: str
) -> None:
    root = folder()
    truncated = tmp_path / "truncated.ckpt"
    torch.save({"state_dict": {}}, truncated)
    truncated.write_bytes(truncated.read_bytes()[:-300])
    assert "truncated.ckpt: truncated" in refused(words(root, "run", f"{option}={truncated}"))
    pickled = tmp_path / "pickled.ckpt"
    torch.save({"state_dict": {}, "regrow": print}, pickled)
    assert "pickled.ckpt: refused, it holds pickled code" in refused(
        words(root, "run", f"{option}={pickled}")
    )
    other = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}}, other)
    assert "other.ckpt: not a regrow checkpoint" in refused(words(root, "run", f"{option}={other}"))


def test_keys_that_do_not_exist(
    folder: Folder, words: Words, refused: Refused, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    for text, name in (
        ("fit: {epoch: 3}", "epoch"),
        ("fits: {epochs: 3}", "fits"),
        ("data: {sauce: 3}", "sauce"),
        ("task: {init_args: {nets: small}}", "nets"),
    ):
        config.write_text(text)
        assert name in refused([*words(folder()), f"--config={config}"])
    config.write_text("fit: {epochs: [")
    assert "config.yaml" in refused([*words(folder()), f"--config={config}"])
    assert "nowhere.yaml" in refused([*words(folder()), "--config=nowhere.yaml"])


def test_networks_and_weights_that_do_not_exist(
    folder: Folder, words: Words, refused: Refused, tmp_path: Path
) -> None:
    root = folder()
    assert "resnet18" in refused(words(root, "run", "--task.net=timm/resnet81"))
    weights = tmp_path / "weights.pth"
    assert "weights.pth: no such file" in refused(words(root, "run", f"--task.weights={weights}"))
    torch.save({"a": torch.zeros(1)}, weights)
    assert "weights.pth: does not fit" in refused(words(root, "run", f"--task.weights={weights}"))


def test_data_of_another_task(words: Words, refused: Refused, tmp_path: Path) -> None:
    boxes = coco(tmp_path / "data", names=("cell", "core"), numbers=(1, 2))
    swapped = [word.replace("detection", "segmentation") for word in boxes]
    said = "masks are asked for, and its annotations have boxes alone, no segmentation; train det"
    assert said in refused(swapped)  # the config's source asks for masks
    as_boxes = [*swapped, "--data.source.kind=boxes"]
    assert "Segmentation needs masks, the data has boxes" in refused(as_boxes)


def test_images_of_a_size_that_the_network_cannot_take(
    folder: Folder, words: Words, refused: Refused
) -> None:
    said = refused(words(folder(), "run", "--task.net=torchvision/vit_b_32"))
    assert "'torchvision/vit_b_32' cannot take images of data.size [32, 32]" in said
    assert "task.net_args" in said


def test_a_single_class(folder: Folder, words: Words, refused: Refused) -> None:
    root = folder("one", ("red",))
    assert "Classification needs 2 classes or more, the data has red" in refused(words(root))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("fit.epochs=0", "fit.epochs is 0"),
        ("fit.epochs=-1", "epochs is -1"),
        ("fit.patience=-1", "patience is -1"),
        ("fit.clip=-1", "clip is -1"),
        ("fit.ema=2", "ema is 2"),
        ("fit.images=-1", "images -1"),
        ("fit.accelerator=foo", "foo"),
        ("fit.accelerator=tpu", "xla"),
        ("fit.precision=foo", "foo"),
        ("fit.strategy=foo", "foo"),
        ("fit.devices=0", "devices"),
        ('fit.trainer={"foo": 1}', "foo"),
        ('fit.trainer={"max_epochs": 1}', "fit.trainer.max_epochs: regrow decides it"),
        ("task.optimization.lr=-1", "optimization.lr is -1"),
        ("task.optimization.warmup=-1", "optimization.warmup is -1"),
        ("task.label_smoothing=2", "task.label_smoothing is 2"),
        ("task.std=[0, 0, 0]", "task.std is [0.0, 0.0, 0.0]"),
        ('task.net_args={"width": 0}', "layers without any weights"),
        ('task.net_args={"width": -1}', "'width': -1"),
        ("data.num_workers=-1", "data.num_workers is -1"),
        ("data.cache_bytes=-1", "data.cache_bytes -1"),
        ("seed=-1", "seed is -1"),
        ("gate.margin=2", "gate.margin is 2.0, it must lie in [0, 1]"),
        ("growth.distillation.weight=-1", "distillation.weight is -1.0, it must be 0 or more"),
    ],
)
def test_values_out_of_range(
    folder: Folder, words: Words, refused: Refused, option: str, said: str
) -> None:
    told = refused(words(folder(count=2), "run", f"--{option}"))
    assert said in told
    assert "Union subtypes" not in told
    assert "Namespace(" not in told


@pytest.mark.parametrize(
    "option", ['renamed={"red": "rot"}', "removed=[red]", "sparsity=dense", "allow-forgetting"]
)
def test_what_only_a_warm_start_can_do(
    folder: Folder, words: Words, refused: Refused, option: str
) -> None:
    said = refused(words(folder(count=2), "run", f"--{option}"))
    assert f"--{option.partition('=')[0]} is for a warm start; add --warm-start CKPT" in said


def test_a_network_that_is_served_is_not_moved_aside(
    folder: Folder, words: Words, refused: Refused, tmp_path: Path
) -> None:
    served = tmp_path / "promoted.json"
    save(tmp_path / "run" / "served.ckpt", Classification(["green", "red"], (32, 32)))
    served.write_text(json.dumps({"checkpoint": str(tmp_path / "run" / "served.ckpt")}))
    said = refused(words(folder(count=2), "run", f"--promoted={served}"))
    assert "served.ckpt is part of the run in" in said


def test_a_batch_that_a_network_cannot_take(folder: Folder, words: Words, refused: Refused) -> None:
    said = refused(words(folder(), "run", "--task.net=timm/resnet10t", "--data.batch_size=1"))
    assert "'timm/resnet10t' cannot take data.batch_size 1" in said


def test_the_config_of_another_task(
    folder: Folder, words: Words, refused: Refused, tmp_path: Path
) -> None:
    root = folder()
    commands.train(words(root, "old"))
    (tmp_path / "old").rename(tmp_path / "parent")
    other = [word.replace("classification", "segmentation") for word in words(root)]
    start = f"--warm-start={tmp_path}/parent/best.ckpt"
    assert "Segmentation needs masks, the data has labels" in refused([*other, start])


def test_a_folder_that_is_no_run(folder: Folder, words: Words, refused: Refused) -> None:
    root = folder()
    said = refused([*words(root), f"--run={root}"])
    assert f"{root} holds files that are no run of regrow's" in said
    assert len(list(root.rglob("*.png"))) == 72
