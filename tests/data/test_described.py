"""What the data.yaml of a stranger may describe."""

import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from torchvision.transforms import v2

from regrow.cli import parse
from regrow.data.config import write_data_file
from regrow.data.described import NESTING, SOURCES, TRANSFORMS, ForeignName, build_data
from regrow.data.formats import ImageFolder
from regrow.data.module import GrowingData
from regrow.data.staged import Staged
from regrow.errors import BadInput

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(ROOT.joinpath("configs").rglob("*.yaml"))
V2 = "torchvision.transforms.v2"
FOLDER = {"source": {"class_path": "regrow.data.formats.ImageFolder"}}


def _augmented(*transforms: Any) -> dict[str, Any]:
    return {**FOLDER, "augment": list(transforms)}


def _described(data: GrowingData) -> dict[str, Any]:
    own = {name: value for name, value in vars(data).items() if not name.startswith("_")}
    for name in ("source", "augment", "remarks"):
        value = own.pop(name)
        own[f"{name}s"] = (
            repr(value).replace("[", "(").replace("]", ")")
            if name == "augment"
            else (type(value), repr(vars(value)))
        )
    return {name: value for name, value in own.items() if not name.startswith("prepare")}


def test_every_config_of_regrow_is_read_by_itself_as_by_name(tmp_path: Path) -> None:
    seen = 0
    for file in CONFIGS:
        content = yaml.safe_load(file.read_text())
        for key in ("data", "before"):
            if not isinstance(content, dict) or "source" not in (content.get(key) or {}):
                continue
            seen += 1
            (tmp_path / "own.yaml").write_text(yaml.safe_dump({"data": content[key]}))

            def only(data: GrowingData) -> None:
                """Take the data."""

            values, plain = parse(only, ["--config", str(tmp_path / "own.yaml")], description="")
            write_data_file(tmp_path, plain)
            again = build_data(yaml.safe_load((tmp_path / "data.yaml").read_text())["data"])
            named, own = _described(values["data"]), _described(again)
            assert [named.pop("sources")[0]] == [own.pop("sources")[0]], file
            assert named == own, file
    assert seen > 5


@pytest.mark.parametrize("own", TRANSFORMS)
def test_no_known_transform_takes_what_can_be_called(own: type[v2.Transform]) -> None:
    hints = " ".join(map(str, get_type_hints(own.__init__).values()))  # type: ignore[misc]
    assert "Callable" not in hints
    assert "labels_getter" not in signature(own).parameters


def test_only_the_lists_of_transforms_take_what_can_be_called() -> None:
    assert v2.Lambda not in {*TRANSFORMS, *NESTING}
    assert all(list(signature(own).parameters)[0] == "transforms" for own in NESTING)


def test_nested_transforms_and_plain_arguments_are_taken() -> None:
    flip = {"class_path": f"{V2}.RandomHorizontalFlip", "init_args": {"p": 0.25}}
    crop = {"class_path": f"{V2}.RandomCrop", "init_args": {"size": [32, 32], "padding": 4}}
    inner = {"class_path": f"{V2}.RandomApply", "init_args": {"transforms": [crop], "p": 0.3}}
    policy = {"class_path": f"{V2}.AutoAugment", "init_args": {"policy": "CIFAR10"}}
    data = build_data({**_augmented(flip, inner, policy), "size": [8, 9], "val_share": 0})
    assert [type(one) for one in data.augment] == [
        v2.RandomHorizontalFlip,
        v2.RandomApply,
        v2.AutoAugment,
    ]
    assert isinstance(data.augment[1].transforms[0], v2.RandomCrop)
    assert data.augment[0].p == 0.25
    assert data.augment[2].policy is v2.AutoAugmentPolicy.CIFAR10
    assert data.size == (8, 9)


def test_a_staged_source_has_another_one_inside() -> None:
    inner = {"class_path": "regrow.data.formats.ImageFolder"}
    source = {"class_path": "regrow.data.staged.Staged", "init_args": {"source": inner}}
    data = build_data({"source": source, "root": "somewhere"})
    assert isinstance(data.source, Staged)
    assert isinstance(data.source.source, ImageFolder)
    assert data.root == Path("somewhere")
    source["init_args"]["source"] = {"class_path": "os.system"}  # type: ignore[index]
    with pytest.raises(ForeignName, match=r"data\.source\.source names 'os\.system'"):
        build_data({"source": source})


def test_nothing_is_imported_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile.py").write_text("raise SystemExit('code was run')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("hostile.Source", "hostile", "regrow.data.formats.ImageFolder.hostile"):
        for value in (name, {"class_path": name}):
            with pytest.raises(ForeignName, match="read by itself; name the data with --config"):
                build_data({"source": value})
            with pytest.raises(ForeignName):
                build_data(_augmented(value))
        with pytest.raises(ForeignName):
            build_data({"class_path": name, "init_args": FOLDER})
        dropped = {"class_path": f"{V2}.RandomCrop", "init_args": {"size": 8, "fill": {name: 0}}}
        with pytest.raises(BadInput):
            build_data(_augmented(dropped))
    assert "hostile" not in sys.modules


LAMBDA = {"class_path": f"{V2}.Lambda", "init_args": {"lambd": "pickle.loads"}}


def _one(name: str, **values: Any) -> dict[str, Any]:
    return {"class_path": f"{V2}.{name}", "init_args": values}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (_augmented(LAMBDA), "Lambda"),
        (_augmented(f"{V2}.Lambda"), "Lambda"),
        (_augmented(_one("RandomApply", transforms=[LAMBDA])), "Lambda"),
        (_augmented(_one("Compose", transforms=["pickle.loads"])), "pickle.loads"),
        (_augmented(_one("RandomApply", transforms="pickle.loads")), "must be a list"),
        (_augmented(_one("SanitizeBoundingBoxes", labels_getter="os.abort")), "Sanitize"),
        (_augmented(_one("RandomCrop", size=8, padding_mode="os.abort")), "must be a word"),
        (_augmented(_one("RandomCrop", size=["os.abort"])), "list of numbers"),
        (_augmented(_one("Pad", padding=10**9)), "4096 at most"),
        (_augmented(_one("Pad", padding=float("nan"))), "4096 at most"),
        (_augmented(_one("RandomZoomOut", side_range=[1, 100])), "16 at most"),
        (_augmented(*[_one("Identity")] * 17), "more than 16"),
        (_augmented({**_one("Identity"), "dict_kwargs": {}}), "alone"),
        ({**FOLDER, "augment": f"{V2}.Lambda"}, "data.augment"),
        ({**FOLDER, "workers": 3}, "has no argument 'workers'"),
        ({**FOLDER, "size": "{a: &a [1], b: *a}"}, "data.size"),
        ({**FOLDER, "batch_size": True}, "data.batch_size"),
        ({**FOLDER, "root": "a\0b"}, "data.root"),
        ({"source": {"class_path": f"{V2}.Identity"}}, "Identity"),
        ({}, "missing"),
        ([], "data is list"),
    ],
)
def test_what_could_run_code_or_take_the_machine_is_refused(values: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said) as told:
        build_data(values)
    assert "\n" not in str(told.value)


def _source(name: str, **values: Any) -> dict[str, Any]:
    return {"source": {"class_path": f"regrow.data.{name}", "init_args": values}}


def test_data_sets_of_torchvision_that_hold_pickles_are_refused() -> None:
    assert build_data(_source("formats.Torchvision", dataset="torchvision.datasets.CIFAR10"))
    with pytest.raises(ForeignName, match="may hold pickles"):
        build_data(_source("formats.Torchvision", dataset="torchvision.datasets.ImageNet"))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "a*a*a*a*$", "(?:x{2,}) {9}"])
def test_a_pattern_that_may_never_end_is_refused(pattern: str) -> None:
    inner = {"class_path": "regrow.data.formats.ImageFolder"}
    for values in (
        _source("staged.Staged", source=inner, late_names=pattern),
        _source("formats.Masks", group=pattern),
    ):
        with pytest.raises(BadInput, match="2 repeats at most"):
            build_data(values)
    assert build_data(_source("formats.Masks", group=r"^(\w+)_.*"))


def test_every_known_source_is_one_that_help_names() -> None:
    from regrow.data.config import DATA_CHOICES

    assert list(DATA_CHOICES["data.source"]) == list(SOURCES)


@pytest.mark.slow
def test_damaged_descriptions_are_refused_in_one_line_or_taken(
    mutated_plain: Callable[[Any, int], Any],
    mutated_bytes: Callable[[bytes, int], bytes],
    tmp_path: Path,
) -> None:
    from regrow.files import read_yaml

    crop = _one("RandomCrop", size=[32, 32], padding=4)
    inner = _source("formats.Masks", group="^(a)", images="i/{split}")["source"]
    staged = _source("staged.Staged", source=inner, late_classes=["a"], late_names="x")
    whole = {**staged, **_augmented(crop, _one("RandomApply", transforms=[crop]))}
    whole |= {**staged, "size": [32, 32], "root": "r", "classes": ["a", "b"], "max_images": None}
    loaded, outcomes = set(sys.modules), {"taken": 0, "refused": 0}
    for seed in range(1000):
        if seed % 2:
            values = mutated_plain(whole, seed)
        else:
            text = mutated_bytes(yaml.safe_dump(whole).encode(), seed)
            (tmp_path / "data.yaml").write_bytes(text)
        said = None
        try:
            build_data(values if seed % 2 else read_yaml(tmp_path / "data.yaml"))
        except BadInput as error:
            said = str(error)
        assert said is None or (said.isprintable() and len(said) < 2500)
        outcomes["taken" if said is None else "refused"] += 1
    assert set(sys.modules) == loaded
    assert min(outcomes.values()) > 0
