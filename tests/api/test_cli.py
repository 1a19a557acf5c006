"""Configs and command lines, whoever wrote them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from regrow.cli import names_option, parse
from regrow.data.config import data_beside
from regrow.data.module import GrowingData
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


def _only(data: GrowingData, fit: Fit = Fit(), renamed: dict[str, str] | None = None) -> None:  # noqa: B008
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
