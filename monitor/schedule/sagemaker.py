"""SageMaker's requests for a monitoring schedule, or a single job, of regrow's own container.

Source: Amazon SageMaker API Reference, CreateMonitoringSchedule and CreateProcessingJob; Developer
Guide, "Support for Your
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
MACHINES = {"InstanceCount": 1, "InstanceType": INSTANCE, "VolumeSizeInGB": DISK}
LONGEST = 3600  # seconds of a run
PROCESSING = "/opt/ml/processing"
WORD = "monitor"  # what the container is told to do
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


def create_processing_job(
    name: str,
    endpoint: str,
    account: Account,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the request CreateProcessingJob: a run with inputs that no monitoring schedule has.

    What earlier jobs have left comes back as an input, so that the alarms go on; and so do labels.

    Args:
        name: The name of the job; each has its own.
        endpoint: The endpoint whose captures are judged.
        account: What belongs to the user's account.
        environment: Further variables of the container.
    """
    bucket = f"s3://{account.bucket}"
    results = f"{bucket}/{name}/monitor"
    inputs = {
        "input": f"{bucket}/capture/{endpoint}",
        "state": results,
        "groundtruth": f"{bucket}/{name}/groundtruth",
    }
    output = {
        "S3Uri": results,
        "LocalPath": f"{PROCESSING}/output",
        "S3UploadMode": "EndOfJob",
    }
    return {
        "ProcessingJobName": name,
        "ProcessingInputs": [_input(*pair) for pair in inputs.items()],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "results", "S3Output": output}]},
        "ProcessingResources": {"ClusterConfig": MACHINES},
        "AppSpecification": {"ImageUri": account.image, "ContainerArguments": [WORD]},
        "StoppingCondition": {"MaxRuntimeInSeconds": LONGEST},
        "Environment": {
            "sagemaker_endpoint_name": endpoint,
            "sagemaker_monitoring_schedule_name": name,
            **environment,
        },
        "RoleArn": account.role,
    }


def _input(name: str, place: str) -> dict[str, Any]:
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": place,
            "LocalPath": f"{PROCESSING}/{name}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
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
    return {
        "BaselineConfig": {
            "ConstraintsResource": {"S3Uri": f"{baseline}/{CONSTRAINTS}"},
            "StatisticsResource": {"S3Uri": f"{baseline}/{STATISTICS}"},
        },
        "MonitoringInputs": [
            {"EndpointInput": {"EndpointName": endpoint, "LocalPath": f"{PROCESSING}/input"}}
        ],
        "MonitoringOutputConfig": {"MonitoringOutputs": [{"S3Output": reports}]},
        "MonitoringResources": {"ClusterConfig": MACHINES},
        "MonitoringAppSpecification": {
            "ImageUri": account.image,
            "ContainerArguments": [WORD],
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": LONGEST},
        "Environment": {"publish_cloudwatch_metrics": "Enabled", **environment},
        "RoleArn": account.role,
    }
