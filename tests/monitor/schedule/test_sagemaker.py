"""The request for a monitoring schedule has the shape that SageMaker's API takes."""

from typing import Any

import pytest

from regrow.monitor.schedule.expression import Schedule
from regrow.monitor.schedule.sagemaker import Account, create_monitoring_schedule

loaders = pytest.importorskip("botocore.loaders", reason="needs regrow[sagemaker]")
validate = pytest.importorskip("botocore.validate")
ACCOUNT = Account(
    "1.dkr.ecr.us-east-1.amazonaws.com/regrow:1", f"arn:aws:iam::{'1' * 12}:role/r", "b"
)


@pytest.fixture(scope="module")
def shape() -> Any:
    from botocore.model import ServiceModel

    service = ServiceModel(loaders.Loader().load_service_model("sagemaker", "service-2"))
    return service.operation_model("CreateMonitoringSchedule").input_shape


@pytest.mark.parametrize("every", ["hourly", "daily", "NOW", "cron(0 1/5 ? * * *)"])
def test_every_key_is_the_apis(shape: Any, every: str) -> None:
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
