"""Each platform gets the files that it needs, and no others."""

import json
from pathlib import Path
from typing import Any

import pytest

from regrow.deploy.packing.packages import package
from regrow.errors import BadInput

Exported = dict[str, tuple[Any, Path]]
SHA = "0123456789abcdef" * 4


def test_triton_and_kserve_share_a_repository(exported: Exported) -> None:
    _, model = exported["labels"]
    files = package("triton", model, SHA)
    assert list(files) == [
        "model_repository/regrow/config.pbtxt",
        "model_repository/regrow/1/model.onnx",
    ]
    assert files["model_repository/regrow/1/model.onnx"] == model
    more = package("kserve", model, SHA)
    assert set(more) - set(files) == {"inference_service.yaml"}
    assert {name: more[name] for name in files} == files


def test_sagemaker_gets_an_archive_with_root_members_and_two_requests(exported: Exported) -> None:
    _, model = exported["labels"]
    files = package("sagemaker", model, SHA)
    archive = files.pop("sagemaker/model.tar.gz")
    assert isinstance(archive, dict)
    assert sorted(archive) == ["code/inference.py", "code/requirements.txt", "model.onnx"]
    requests = {name: json.loads(str(text)) for name, text in files.items()}
    assert requests["sagemaker/create_model.json"]["ModelName"] == "regrow-0123456789ab"
    name = requests["sagemaker/create_endpoint_config.json"]["EndpointConfigName"]
    assert name == "regrow-0123456789ab"


def test_another_platform_is_refused(exported: Exported) -> None:
    with pytest.raises(BadInput, match="for is 'torchserve'; it may be sagemaker, triton, kserve"):
        package("torchserve", exported["labels"][1], SHA)  # type: ignore[arg-type]
