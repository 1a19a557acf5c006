"""The files that a platform needs to serve an exported model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import onnx

from regrow.deploy.packing.kserve import REPOSITORY, inference_service
from regrow.deploy.packing.sagemaker import (
    PROGRAM,
    REQUIREMENTS,
    create_endpoint_config,
    create_model,
)
from regrow.deploy.packing.triton import config_pbtxt
from regrow.errors import BadInput

Platform = Literal["sagemaker", "triton", "kserve"]
NAME = "regrow"  # the model's in the paths of V2, as `scripts/serve.py` has it
# A text, a file to copy, or the members of a compressed archive.
Content = str | Path | Mapping[str, str | Path]


def package(platform: Platform, model: Path, sha256: str) -> dict[str, Content]:
    """Return the files that serve a model on a platform, by their paths below the run's folder.

    Args:
        platform: The platform.
        model: The ONNX file.
        sha256: Its hash, by which SageMaker's models are told apart.

    Raises:
        BadInput: If there is no such platform.
    """
    if platform == "sagemaker":
        return _for_sagemaker(model, f"{NAME}-{sha256[:12]}")
    if platform not in get_args(Platform):
        raise BadInput(f"for is {platform!r}; it may be {', '.join(get_args(Platform))}")
    graph = onnx.load(model, load_external_data=False).graph
    files: dict[str, Content] = {
        f"{REPOSITORY}/{NAME}/config.pbtxt": config_pbtxt(NAME, graph),
        f"{REPOSITORY}/{NAME}/1/model.onnx": model,
    }
    if platform == "kserve":
        files["inference_service.yaml"] = inference_service(NAME)
    return files


def _for_sagemaker(model: Path, name: str) -> dict[str, Content]:
    code = Path(__file__).with_name(PROGRAM).read_text("utf-8")
    return {
        "sagemaker/model.tar.gz": {
            "model.onnx": model,
            f"code/{PROGRAM}": code,
            "code/requirements.txt": REQUIREMENTS,
        },
        "sagemaker/create_model.json": _json(create_model(name)),
        "sagemaker/create_endpoint_config.json": _json(create_endpoint_config(name)),
    }


def _json(request: dict[str, Any]) -> str:
    return json.dumps(request, indent=2) + "\n"
