"""SageMaker's request for a monitoring schedule that runs regrow's own container.

Source: Amazon SageMaker API Reference, CreateMonitoringSchedule; Developer Guide, "Support for Your
Own Containers With Amazon SageMaker Model Monitor".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from regrow.monitor.files.constraints import CONSTRAINTS
from regrow.monitor.files.statistics import STATISTICS
from regrow.monitor.schedule.expression import NOW, Schedule

INSTANCE, DISK = "ml.m5.large", 20  # gigabytes
LONGEST = 3600  # seconds of a run
PROCESSING = "/opt/ml/processing"
ONE_HOUR = ("-PT1H", "-PT0H")  # what a single run looks at: the hour before it


@dataclass(frozen=True, slots=True)
class Account:
    """What belongs to the user's account.

    Args:
        image: The address of the container image.
        role: The ARN of the role that the jobs run as.
        bucket: The bucket of the baseline and the reports.
    """

    image: str
    role: str
    bucket: str


def create_monitoring_schedule(
    name: str,
    schedule: Schedule,
    endpoint: str,
    account: Account,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the request CreateMonitoringSchedule.

    Args:
        name: The name of the schedule.
        schedule: When it runs.
        endpoint: The endpoint whose captures are judged.
        account: What belongs to the user's account.
        environment: Further variables of the container.
    """
    config: dict[str, str] = {"ScheduleExpression": schedule.expression}
    if schedule.expression == NOW:
        start, end = ONE_HOUR
        config |= {"DataAnalysisStartTime": start, "DataAnalysisEndTime": end}
    return {
        "MonitoringScheduleName": name,
        "MonitoringScheduleConfig": {
            "ScheduleConfig": config,
            "MonitoringType": "DataQuality",
            "MonitoringJobDefinition": _job(name, endpoint, account, environment),
        },
    }


def _job(
    name: str, endpoint: str, account: Account, environment: Mapping[str, str]
) -> dict[str, Any]:
    baseline = f"s3://{account.bucket}/{name}/baseline"
    reports = {
        "S3Uri": f"s3://{account.bucket}/{name}/reports",
        "LocalPath": f"{PROCESSING}/output",
    }
    machines = {"InstanceCount": 1, "InstanceType": INSTANCE, "VolumeSizeInGB": DISK}
    return {
        "BaselineConfig": {
            "ConstraintsResource": {"S3Uri": f"{baseline}/{CONSTRAINTS}"},
            "StatisticsResource": {"S3Uri": f"{baseline}/{STATISTICS}"},
        },
        "MonitoringInputs": [
            {"EndpointInput": {"EndpointName": endpoint, "LocalPath": f"{PROCESSING}/input"}}
        ],
        "MonitoringOutputConfig": {"MonitoringOutputs": [{"S3Output": reports}]},
        "MonitoringResources": {"ClusterConfig": machines},
        "MonitoringAppSpecification": {
            "ImageUri": account.image,
            "ContainerArguments": ["monitor"],
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": LONGEST},
        "Environment": {"publish_cloudwatch_metrics": "Enabled", **environment},
        "RoleArn": account.role,
    }
