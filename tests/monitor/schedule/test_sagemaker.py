"""The request for a monitoring schedule has the shape that SageMaker's API takes."""

from collections.abc import Callable
from typing import Any

import pytest

from regrow.monitor.schedule.expression import Schedule
from regrow.monitor.schedule.sagemaker import (
    Account,
    create_monitoring_schedule,
    create_processing_job,
)

loaders = pytest.importorskip("botocore.loaders", reason="needs regrow[sagemaker]")
validate = pytest.importorskip("botocore.validate")
ACCOUNT = Account(
    "1.dkr.ecr.us-east-1.amazonaws.com/regrow:1", f"arn:aws:iam::{'1' * 12}:role/r", "b"
)


@pytest.fixture(scope="module")
def shapes() -> Callable[[str], Any]:
    from botocore.model import ServiceModel

    service = ServiceModel(loaders.Loader().load_service_model("sagemaker", "service-2"))
    return lambda name: service.operation_model(name).input_shape


@pytest.mark.parametrize("every", ["hourly", "daily", "NOW", "cron(0 1/5 ? * * *)"])
def test_every_key_is_the_apis(shapes: Callable[[str], Any], every: str) -> None:
    shape = shapes("CreateMonitoringSchedule")
    made = create_monitoring_schedule("road-1", Schedule.parse(every), "road", ACCOUNT, {"a": "b"})
    validate.validate_parameters(made, shape)
    config = made["MonitoringScheduleConfig"]
    job = config["MonitoringJobDefinition"]
    # What the validator of botocore leaves to the service: values that are listed, and patterns.
    config_shape = shape.members["MonitoringScheduleConfig"]
    assert config["MonitoringType"] in config_shape.members["MonitoringType"].enum
    job_shape = config_shape.members["MonitoringJobDefinition"]
    cluster = job_shape.members["MonitoringResources"].members["ClusterConfig"]
    machines = job["MonitoringResources"]["ClusterConfig"]
    assert machines["InstanceType"] in cluster.members["InstanceType"].enum
    assert job["Environment"] == {"publish_cloudwatch_metrics": "Enabled", "a": "b"}
    assert job["MonitoringAppSpecification"]["ContainerArguments"] == ["monitor"]
    made["MonitoringScheduleConfig"]["Every"] = "hour"
    with pytest.raises(Exception, match="Unknown parameter in MonitoringScheduleConfig"):
        validate.validate_parameters(made, shape)


def test_a_single_job_gets_what_earlier_ones_have_left(shapes: Callable[[str], Any]) -> None:
    made = create_processing_job("road-1", "road", ACCOUNT, {"regrow_blocks": "camera"})
    shape = shapes("CreateProcessingJob")
    validate.validate_parameters(made, shape)
    inputs = {own["InputName"]: own["S3Input"] for own in made["ProcessingInputs"]}
    (output,) = made["ProcessingOutputConfig"]["Outputs"]
    assert inputs["state"]["S3Uri"] == output["S3Output"]["S3Uri"] == "s3://b/road-1/monitor"
    # What the validator of botocore leaves to the service.
    of_input = shape.members["ProcessingInputs"].member.members["S3Input"].members
    for own in inputs.values():
        for key in ("S3DataType", "S3InputMode", "S3DataDistributionType"):
            assert own[key] in of_input[key].enum
    of_output = shape.members["ProcessingOutputConfig"].members["Outputs"].member.members
    assert output["S3Output"]["S3UploadMode"] in of_output["S3Output"].members["S3UploadMode"].enum
    machines = made["ProcessingResources"]["ClusterConfig"]
    cluster = shape.members["ProcessingResources"].members["ClusterConfig"]
    assert machines["InstanceType"] in cluster.members["InstanceType"].enum
    assert made["Environment"]["regrow_blocks"] == "camera"


def test_no_monitoring_schedule_has_such_inputs(shapes: Callable[[str], Any]) -> None:
    """Once the API takes more than captures, the request should bring results and labels too."""
    config = shapes("CreateMonitoringSchedule").members["MonitoringScheduleConfig"]
    job = config.members["MonitoringJobDefinition"]
    inputs = job.members["MonitoringInputs"].member
    assert {*inputs.members} == {"EndpointInput", "BatchTransformInput"}


def test_one_run_says_what_it_looks_at() -> None:
    once = create_monitoring_schedule("a", Schedule.parse("NOW"), "road", ACCOUNT)
    assert once["MonitoringScheduleConfig"]["ScheduleConfig"] == {
        "ScheduleExpression": "NOW",
        "DataAnalysisStartTime": "-PT1H",
        "DataAnalysisEndTime": "-PT0H",
    }
    later = create_monitoring_schedule("a", Schedule.parse("daily"), "road", ACCOUNT)
    assert later["MonitoringScheduleConfig"]["ScheduleConfig"] == {
        "ScheduleExpression": "cron(0 0 ? * * *)"
    }
