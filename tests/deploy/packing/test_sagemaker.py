"""SageMaker's requests have the shapes that its API takes."""

import re
from typing import Any

import pytest

from regrow.deploy.capture.lines import Capturing
from regrow.deploy.packing.placeholders import MEANINGS, placeholders_in
from regrow.deploy.packing.sagemaker import create_endpoint_config, create_model

loaders = pytest.importorskip("botocore.loaders", reason="needs regrow[sagemaker]")
validate = pytest.importorskip("botocore.validate")


@pytest.fixture(scope="module")
def service() -> Any:
    from botocore.model import ServiceModel

    return ServiceModel(loaders.Loader().load_service_model("sagemaker", "service-2"))


def _refuse(service: Any, operation: str, request: dict[str, Any]) -> None:
    validate.validate_parameters(request, service.operation_model(operation).input_shape)


def test_requests_have_the_apis_shapes(service: Any) -> None:
    _refuse(service, "CreateModel", create_model("regrow-1"))
    _refuse(service, "CreateEndpointConfig", create_endpoint_config("regrow-1"))
    with pytest.raises(Exception, match="ModelNam"):  # the check is one
        _refuse(service, "CreateModel", {"ModelNam": "a"})


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("InputAndOutput", [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]),
        ("Input", [{"CaptureMode": "Input"}]),
        ("Output", [{"CaptureMode": "Output"}]),
    ],
)
def test_capture_is_that_of_the_server(service: Any, mode: Any, options: Any) -> None:
    capturing = Capturing(mode=mode, csv_types=["text/x-csv"])
    request = create_endpoint_config("a", capturing, 0.07)
    _refuse(service, "CreateEndpointConfig", request)
    assert request["DataCaptureConfig"] == {
        "EnableCapture": True,
        "InitialSamplingPercentage": 7,
        "DestinationS3Uri": "s3://YOUR_BUCKET/capture",
        "CaptureOptions": options,
        "CaptureContentTypeHeader": {
            "CsvContentTypes": ["text/x-csv"],
            "JsonContentTypes": ["application/json"],
        },
    }
    shape = service.shape_for("CaptureOption").members["CaptureMode"]
    assert {option["CaptureMode"] for option in options} <= set(shape.enum)


def test_the_configuration_names_the_model() -> None:
    assert create_model("a")["ModelName"] == "a"
    (variant,) = create_endpoint_config("a")["ProductionVariants"]
    assert variant["ModelName"] == "a"


def test_what_nobody_set_is_no_account_role_or_bucket(service: Any) -> None:
    role = service.shape_for("RoleArn").metadata["pattern"]
    bucket = r"s3://[a-z0-9][a-z0-9.-]+/.*"
    request = create_model("a")
    assert not re.fullmatch(role, request["ExecutionRoleArn"])
    assert re.fullmatch(role, request["ExecutionRoleArn"].replace("YOUR_ACCOUNT", "1" * 12))
    assert not re.fullmatch(bucket, request["PrimaryContainer"]["ModelDataUrl"])
    assert set(placeholders_in([str(request)])) == set(MEANINGS)
    assert placeholders_in(["s3://mine"]) == {}
