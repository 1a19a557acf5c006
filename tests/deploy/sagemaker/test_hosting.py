"""What the platform says to a container that serves is read, and refused where it is odd."""

from pathlib import Path

import pytest

from regrow.deploy.sagemaker.hosting import Hosting
from regrow.errors import BadInput


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a container with a model."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").touch()
    return {"SAGEMAKER_BASE_DIR": str(tmp_path)}


def test_an_endpoint_has_one_model_and_port_8080(env: dict[str, str], tmp_path: Path) -> None:
    found = Hosting.from_environment(env)
    assert (found.model, found.models, found.port) == (tmp_path / "model", None, 8080)
    assert found.max_body is None
    assert found.max_concurrent is None


def test_the_platform_may_choose_the_port(env: dict[str, str]) -> None:
    assert Hosting.from_environment(env | {"SAGEMAKER_BIND_TO_PORT": "14000"}).port == 14000
    assert Hosting.from_environment(env | {"SAGEMAKER_BIND_TO_PORT": ""}).port == 8080


def test_many_models_are_loaded_by_name_and_none_is_needed_at_first(tmp_path: Path) -> None:
    env = {"SAGEMAKER_BASE_DIR": str(tmp_path), "SAGEMAKER_MULTI_MODEL": "true"}
    found = Hosting.from_environment(env)
    assert (found.model, found.models) == (None, tmp_path / "models")


@pytest.mark.parametrize(
    ("more", "body", "concurrent"),
    [
        ({}, 6 * 2**20, 4),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "20"}, 20 * 2**20, 4),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}, 100 * 2**20, 4),
        ({"SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "16"}, 6 * 2**20, 16),
        ({"SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "0"}, 6 * 2**20, 4),
    ],
)
def test_a_batch_transform_says_how_much_it_sends(
    env: dict[str, str], more: dict[str, str], body: int, concurrent: int
) -> None:
    found = Hosting.from_environment(env | {"SAGEMAKER_BATCH": "true"} | more)
    assert (found.max_body, found.max_concurrent) == (body, concurrent)
    assert found.execution_parameters() == {
        "MaxConcurrentTransforms": concurrent,
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": body // 2**20,
    }


def test_an_endpoint_answers_execution_parameters_too(env: dict[str, str]) -> None:
    assert Hosting.from_environment(env).execution_parameters() == {
        "MaxConcurrentTransforms": 4,
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": 6,
    }


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BIND_TO_PORT", "0", "'0'; it must be a whole number, 1 to 65,535"),
        ("BIND_TO_PORT", "80 80", "it must be a whole number"),
        ("BIND_TO_PORT", "\u0661", "it must be a whole number"),
        ("BIND_TO_PORT", "9" * 5000, "it must be a whole number"),
        ("MULTI_MODEL", "yes please", "the platform sets true or false"),
        ("BATCH", "\x1b[2J", "the platform sets true or false"),
        ("MAX_PAYLOAD_IN_MB", "101", "0 to 100"),
        ("MAX_PAYLOAD_IN_MB", "-1", "0 to 100"),
        ("MAX_CONCURRENT_TRANSFORMS", "1e3", "0 to 1,000"),
    ],
)
def test_an_odd_variable_is_named(env: dict[str, str], name: str, value: str, said: str) -> None:
    with pytest.raises(BadInput, match=f"SAGEMAKER_{name} is ") as got:
        Hosting.from_environment(env | {f"SAGEMAKER_{name}": value})
    assert said in str(got.value)
    assert str(got.value).isprintable()
    assert len(str(got.value)) < 250


@pytest.mark.parametrize("is_made", [False, True])
def test_an_empty_folder_is_named(tmp_path: Path, is_made: bool) -> None:
    if is_made:
        (tmp_path / "model").mkdir()
    with pytest.raises(BadInput, match="/model: there is no model in it; the ModelDataUrl"):
        Hosting.from_environment({"SAGEMAKER_BASE_DIR": str(tmp_path)})
