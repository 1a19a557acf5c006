"""Configs and command lines, whoever wrote them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from regrow.cli import names_option, parse, read
from regrow.data.config import data_beside
from regrow.data.formats import ImageFolder
from regrow.data.module import GrowingData
from regrow.data.sample import Digits
from regrow.errors import BadInput
from regrow.plain import refuse_unbounded
from regrow.training.fit import Fit

CONFIG = {
    "data": {
        "source": {"class_path": "regrow.data.sample.Digits", "init_args": {"stage": "grown"}},
        "size": [32, 32],
        "batch_size": 64,
        "augment": [
            {
                "class_path": "torchvision.transforms.v2.RandomAffine",
                "init_args": {"degrees": 8, "translate": [0.08, 0.08]},
            }
        ],
    },
    "fit": {"epochs": 2, "trainer": {"log_every_n_steps": 5}},
    "renamed": {"a": "b"},
}


def _only(data: GrowingData, fit: Fit = Fit(), renamed: dict[str, str] | None = None) -> None:
    """Take options.

    Args:
        data: The data.
        fit: How long.
        renamed: Names.
    """


def _parsed(file: Path) -> dict[str, Any]:
    return parse(_only, ["--config", str(file)], description="")[0]


def test_a_config_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    values = _parsed(tmp_path / "c.yaml")
    assert values["data"].size == (32, 32)
    assert values["fit"].epochs == 2
    assert names_option(["--config", str(tmp_path / "c.yaml")], "renamed")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: " + "[" * 3000 + "]" * 3000, "nested more than 100 deep"),
        ("data: " + "[" * 3000, "nested more than 100 deep"),
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)),
         "more than 200,000 values"),
        ("data: !!python/object/apply:os.system [true]", "not YAML"),
        ("\x00", "not YAML"),
    ],
)  # fmt: skip
def test_a_hostile_config_is_refused_before_it_is_parsed(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=said) as told:
        _parsed(file)
    assert str(file) in str(told.value)
    with pytest.raises(BadInput, match=said):
        names_option(["--config", str(file)], "before")


@pytest.mark.parametrize("deep", ["[" * 100_000, "- " * 100_000, "{a: " * 3000, "? " * 100_000])
@pytest.mark.parametrize("option", ["data.size", "renamed", "fit.trainer", "fit.epochs", "fit"])
def test_a_deep_value_is_refused_before_a_reader_without_limits(
    tmp_path: Path, option: str, deep: str
) -> None:
    for words in ([f"--{option}={deep}"], [f"--{option}", deep]):
        with pytest.raises(BadInput, match="nested more than 100 deep") as told:
            parse(_only, words, description="")
        assert len(str(told.value)) < 2200
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({option.partition(".")[0]: {"x": [deep]}}))
    with pytest.raises(BadInput, match="c.yaml: a text: nested more than 100 deep"):
        _parsed(tmp_path / "c.yaml")


def test_long_texts_that_are_no_bombs_are_left_to_the_parser() -> None:
    for text in ("a" * 5000, "[" + "1, " * 500 + "1]", "'" + "[" * 300 + "'", "[a" * 60, "%" * 300):
        refuse_unbounded(text, "x")
    levels = "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    with pytest.raises(BadInput, match="x: more than 200,000 values"):
        refuse_unbounded(f"a0: &a0 [1]\n{levels}", "x")


def test_the_data_beside_a_checkpoint_is_named_in_errors(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").touch()
    file = tmp_path / "data.yaml"
    for text, said in (
        ("- a", "holds something else than data"),
        ("data: {}\nfit: {}", "holds something else than data"),
        ("data: {source: os.system}", "data.source names 'os.system'"),
        ("data: [", "not YAML"),
    ):
        file.write_text(text)
        with pytest.raises(BadInput, match=said) as told:
            data_beside(tmp_path / "best.ckpt")
        assert str(told.value).startswith(str(file))


# Options from a mapping.

CHOICES = {"data": [GrowingData], "data.source": [Digits, ImageFolder]}
SAME: list[dict[str, Any]] = [
    {},
    {"fit.epochs": "3", "fit.precision": "32", "fit.patience": "null", "fit.clip": "1"},
    {"fit.epochs": 3, "data.size": [48, 64], "data.skip_corrupt": True},
    {"fit.epochs": "3.0", "data.size": "[48.0, 64]"},
    {"data.size": "[48, 64]", "data.skip_corrupt": "true", "data.batch-size": "8"},
    {"data.source.stage": "young"},
    {"data.source": "regrow.data.formats.ImageFolder", "data.root": "images"},
    {"data.source": "regrow.data.sample.Digits", "data.source.mislabelled": "3"},
    {"data.source.class_path": "regrow.data.sample.Digits"},
    {"data.source": {"class_path": "regrow.data.sample.Digits"}, "data.source.stage": "young"},
    {"fit.trainer": {"min_epochs": 1}},
    {"fit": {"epochs": 4}, "fit.clip": 0.5},
    {"renamed": {"white cell": "w", "a.b": "c"}},
    {"data.augment": []},
]


@pytest.mark.parametrize("options", SAME)
@pytest.mark.parametrize("is_below", [False, True])
def test_a_mapping_means_what_its_command_line_does(
    tmp_path: Path, options: dict[str, Any], is_below: bool
) -> None:
    file, source = tmp_path / "c.yaml", {"data.source": "regrow.data.sample.Digits"}
    file.write_text(yaml.safe_dump(CONFIG))
    base = [f"--config={file}"] if is_below else ["--data.source=regrow.data.sample.Digits"]
    words = [f"--{n}={v if isinstance(v, str) else json.dumps(v)}" for n, v in options.items()]
    _, line = parse(_only, base + words, description="", choices=CHOICES)
    values, settings = read(_only, options, base=file if is_below else source, choices=CHOICES)
    assert settings == line
    assert isinstance(values["data"], GrowingData)


def test_a_key_of_a_users_own_keeps_its_dots_spaces_and_dashes() -> None:
    given = {"data.source": "regrow.data.sample.Digits", "renamed.white-cell no. 1": "w"}
    assert read(_only, given, choices=CHOICES)[0]["renamed"] == {"white-cell no. 1": "w"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fit.epohcs": "3"}, r"^fit\.epohcs: no such option; did you mean fit\.epochs\?"),
        ({"epohcs": "3"}, "^epohcs: no such option"),
        ({"data.source.stge": "young"}, "stge: no such option; did you mean stage"),
        ({"help": "data"}, "^help: no such option"),
        ({"print_config": ""}, "^print_config: no such option"),
        ({"fit.epochs": "ten"}, "fit.epochs.*Expected a <class 'int'>"),
        ({"fit.epochs": 1.5}, "fit.epochs.*Expected a <class 'int'>"),
        ({"fit": "x", "fit.epochs": 3}, "fit.epochs is part of fit, which is given as 'x'"),
        ({"data.size": [3], "data.size.x": 3}, "data.size.x is part of data.size"),
        ({"fit": 3}, "^fit is 3, and it must hold options by their names"),
        ({"a b": 3}, "a b"),
        ({"data.size": "[" * 300}, "an option: a text: nested more than 100 deep"),
        ({"fit.clip": "1e999"}, "fit.clip is inf; give a finite number"),
        ({"data": {"init_args": 3}}, "data"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused_in_one_line(
    options: dict[str, Any], said: str
) -> None:
    base = {"data.source": "regrow.data.sample.Digits"} if "data" not in options else {}
    with pytest.raises(BadInput, match=said) as told:
        read(_only, options, base=base, choices=CHOICES)
    assert str(told.value).isprintable()


@pytest.mark.parametrize(("text", "said"), [("- a", "holds a list; expected options"), ("[", "not"),
                                            ("a b: 3", "a b")])  # fmt: skip
def test_a_config_below_a_mapping_is_refused_with_its_name(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(BadInput, match=said):
        read(_only, {"data.source": "regrow.data.sample.Digits"}, base=tmp_path / "c.yaml")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_damaged_config_is_refused_in_one_line_or_taken(
    tmp_path: Path,
    mutated_plain: Callable[[Any, int], Any],
    mutated_bytes: Callable[[bytes, int], bytes],
) -> None:
    file, taken = tmp_path / "c.yaml", 0
    for seed in range(500):
        if seed % 2:
            content = yaml.safe_dump(mutated_plain(CONFIG, seed)).encode("utf-8", "surrogatepass")
        else:
            content = mutated_bytes(yaml.safe_dump(CONFIG).encode(), seed)
        file.write_bytes(content)
        said = "taken"
        try:
            _parsed(file)
            taken += 1
        except BadInput as error:
            said = str(error)
        assert said.isprintable()
        assert len(said) < 2200
    assert 0 < taken < 500


def _reserved(for_: Literal["a", "b"] | None = None, forward: int = 0) -> None:
    """Take options.

    Args:
        for_: A word of Python.
        forward: Another.
    """


def test_an_argument_that_ends_in_an_underscore_is_an_option_without_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["--for", "b"], ["--for=b"], ["--for_", "b"]):
        assert parse(_reserved, words, description="")[0] == {"for_": "b", "forward": 0}
    assert read(_reserved, {"for": "a", "forward": 2})[0] == {"for_": "a", "forward": 2}
    with pytest.raises(BadInput, match=r"\"for\": Expected a .*'a', 'b'.* Given value: c"):
        parse(_reserved, ["--for=c"], description="")
    with pytest.raises(BadInput, match=r"--fo: no such option; did you mean --for\?"):
        parse(_reserved, ["--fo=b"], description="")
    with pytest.raises(SystemExit):
        parse(_reserved, ["--help"], description="")
    said = capsys.readouterr().out
    assert "--for " in said
    assert "--for_" not in said
