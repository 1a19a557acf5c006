"""An InferenceService asks for ONNX by the V2 protocol."""

import yaml

from regrow.deploy.packing.kserve import inference_service


def test_the_service_is_the_one_of_the_guide() -> None:
    assert yaml.safe_load(inference_service("regrow")) == {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "regrow"},
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "onnx"},
                    "protocolVersion": "v2",
                    "runtime": "kserve-tritonserver",
                    "storageUri": "s3://YOUR_BUCKET/model_repository",
                }
            }
        },
    }
