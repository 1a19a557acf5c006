"""KServe's InferenceService for a model: Triton in Kubernetes, by the V2 protocol.

Source: KServe, "Deploying ONNX Models with KServe"; ONNX needs `protocolVersion: v2` there.
"""

import yaml

from regrow.deploy.packing.placeholders import BUCKET

REPOSITORY = "model_repository"


def inference_service(name: str) -> str:
    """Return the YAML of an InferenceService, which serves Triton's model repository.

    Args:
        name: The name of the model and of the service.
    """
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "onnx"},
                    "protocolVersion": "v2",
                    "runtime": "kserve-tritonserver",
                    "storageUri": f"s3://{BUCKET}/{REPOSITORY}",
                }
            }
        },
    }
    return yaml.safe_dump(service, sort_keys=False)
