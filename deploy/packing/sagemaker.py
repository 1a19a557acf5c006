"""SageMaker's requests for an endpoint: CreateModel, and CreateEndpointConfig with data capture.

Source: Amazon SageMaker API Reference, CreateModel, CreateEndpointConfig and DataCaptureConfig.
"""

from typing import Any

from regrow.deploy.capture.lines import Capturing
from regrow.deploy.packing.placeholders import ACCOUNT, BUCKET, IMAGE, ROLE

INSTANCE = "ml.m5.large"
VARIANT = "AllTraffic"
CAPTURED_SHARE = 0.2  # as SageMaker's SDK has it
# What the PyTorch serving container needs; the code answers, and the platform installs the rest.
REQUIREMENTS = "numpy\nonnxruntime\npillow\n"
PROGRAM = "inference.py"


def create_model(name: str) -> dict[str, Any]:
    """Return the request CreateModel for a packed model, with placeholders.

    Args:
        name: The name of the model.
    """
    return {
        "ModelName": name,
        "ExecutionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/{ROLE}",
        "PrimaryContainer": {
            "Image": IMAGE,
            "ModelDataUrl": f"s3://{BUCKET}/{name}/model.tar.gz",
            # For the PyTorch serving container; others have no use for them.
            "Environment": {
                "SAGEMAKER_PROGRAM": PROGRAM,
                "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
            },
        },
    }


def create_endpoint_config(
    name: str, capturing: Capturing = Capturing(), share: float = CAPTURED_SHARE
) -> dict[str, Any]:
    """Return the request CreateEndpointConfig for a model, with placeholders.

    Args:
        name: The name of the model, and of the configuration.
        capturing: What the platform captures of each request.
        share: How many requests it captures, in [0, 1].
    """
    modes = {"InputAndOutput": ("Input", "Output")}.get(capturing.mode, (capturing.mode,))
    return {
        "EndpointConfigName": name,
        "ProductionVariants": [
            {
                "VariantName": VARIANT,
                "ModelName": name,
                "InitialInstanceCount": 1,
                "InstanceType": INSTANCE,
                "InitialVariantWeight": 1.0,
            }
        ],
        "DataCaptureConfig": {
            "EnableCapture": True,
            "InitialSamplingPercentage": round(100 * share),
            "DestinationS3Uri": f"s3://{BUCKET}/capture",
            "CaptureOptions": [{"CaptureMode": mode} for mode in modes],
            "CaptureContentTypeHeader": {
                "CsvContentTypes": list(capturing.csv_types),
                "JsonContentTypes": list(capturing.json_types),
            },
        },
    }
