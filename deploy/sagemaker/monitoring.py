"""SageMaker's contract of a monitoring job: what the platform tells a container that monitors.

Source: Amazon SageMaker Developer Guide, "Container Contract Inputs" and "Container Contract
Outputs" of Model Monitor; "How Amazon SageMaker Processing Configures Input and Output For Your
Processing Container".
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from regrow.deploy.sagemaker.contract import base_folder, hosts_in, read_object
from regrow.deploy.sagemaker.hyperparameters import is_printable
from regrow.errors import BadInput
from regrow.files import write_text
from regrow.plain import parse_json
from regrow.text import printable

ROOT = PurePosixPath("/opt/ml")  # where the platform's paths begin
IMAGE_BASELINE = Path("/opt/regrow/baseline")  # where the Dockerfile of a schedule puts it
OWN = "regrow_"  # how the names of regrow's own variables begin
PLACES = ("regrow_baseline", "regrow_state", "regrow_ground_truth")
CAPTURES = "sagemakerCaptureJson"
SWITCH = ("Enabled", "Disabled")
LONGEST = 256  # characters of a name; those of the platform have 63
MESSAGE = 1024  # characters of an exit message that the platform keeps


@dataclass(frozen=True, slots=True)
class MonitoringJob:
    """The facts of a monitoring job, as the platform puts them.

    Args:
        captures: The folder of the captures; more hours than those of the window may lie there.
        output: The folder that the platform keeps.
        metrics: The folder of CloudWatch metrics; None where they are not published.
        baselines: Folders that may hold the baseline, the first one first.
        constraints: The constraints that the schedule names, if it names some.
        statistics: The statistics that it names, likewise.
        state: The results of earlier jobs, if they came as an input.
        ground_truth: The labels, likewise.
        start: The start of the window, as it is written; empty if there is none.
        end: The end of the window, likewise.
        endpoint: The name of the endpoint; empty if it is not told.
        schedule: The name of the schedule, likewise.
        options: Options of `scripts/monitor.py run` by name.
    """

    captures: Path
    output: Path
    metrics: Path | None
    baselines: tuple[Path, ...]
    constraints: Path | None
    statistics: Path | None
    state: Path | None
    ground_truth: Path | None
    start: str
    end: str
    endpoint: str
    schedule: str
    options: Mapping[str, str]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "MonitoringJob":
        """Read the contract's variables, and what the job's configuration has of them besides.

        Args:
            environment: The environment's variables; None takes those of this process.

        Raises:
            BadInput: If one holds what the platform does not write there, or the job has several
                machines, or no captures.
        """
        process = os.environ if environment is None else environment
        base = base_folder(process)
        _refuse_several_machines(base / "config" / "resourceconfig.json")
        env = {**_configured(base / "config" / "processingjobconfig.json"), **process}
        _refuse_other_data(env.get("dataset_format", ""))
        found = cls(
            captures=_place(env, "dataset_source", base) or base / "processing" / "input",
            output=_place(env, "output_path", base) or base / "processing" / "output",
            metrics=base / "output" / "metrics" if _is_publishing(env) else None,
            baselines=_baselines(env, base),
            constraints=_place(env, "baseline_constraints", base),
            statistics=_place(env, "baseline_statistics", base),
            state=_channel(env, "regrow_state", base, "state"),
            ground_truth=_channel(env, "regrow_ground_truth", base, "groundtruth"),
            start=_text(env, "start_time"),
            end=_text(env, "end_time"),
            endpoint=_text(env, "sagemaker_endpoint_name"),
            schedule=_text(env, "sagemaker_monitoring_schedule_name"),
            options=_options(env),
        )
        if not found.captures.is_dir():
            raise BadInput(f"dataset_source is {found.captures}, where no folder of captures is")
        if found.output == found.captures or found.output in found.captures.parents:
            raise BadInput(f"output_path is {found.output}, which holds the job's own inputs")
        return found


def message_file(base: Path) -> Path:
    """Return the file whose text becomes the exit message of the job."""
    return base / "output" / "message"


def write_message(base: Path, text: str) -> None:
    """Write how the job ended, in one line.

    Args:
        base: The folder of the contract.
        text: What is said, such as `Completed: nothing has changed in 60 pictures`.
    """
    write_text(message_file(base), printable(text, MESSAGE - 60) + "\n")


def _configured(file: Path) -> dict[str, str]:
    """Return the variables that the configuration of the job holds; none where there is no file."""
    content: Any = read_object(file).get("Environment") or {}
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise BadInput(f"{file}: Environment holds no texts by name, as the platform writes them")
    return content


def _refuse_several_machines(file: Path) -> None:
    count = len(hosts_in(file))
    if count > 1:
        raise BadInput(
            f"the job has {count} machines, and each would judge every hour; set InstanceCount to 1"
        )


def _refuse_other_data(text: str) -> None:
    """Refuse data that is no capture of an endpoint, such as that of a batch transform."""
    if not text.strip():
        return
    content = parse_json(text, "dataset_format")
    if not isinstance(content, dict) or CAPTURES not in content:
        raise BadInput(
            f"dataset_format is {printable(text, 80)!r}; only captures of an endpoint are read, "
            f"{CAPTURES}"
        )


def _is_publishing(env: Mapping[str, str]) -> bool:
    text = env.get("publish_cloudwatch_metrics", "").strip() or SWITCH[1]
    if text not in SWITCH:
        raise BadInput(
            f"publish_cloudwatch_metrics is {printable(text, 80)!r}; the platform sets "
            f"{' or '.join(SWITCH)}"
        )
    return text == SWITCH[0]


def _baselines(env: Mapping[str, str], base: Path) -> tuple[Path, ...]:
    """Return where the baseline may lie: in an input of the job, or else in the image."""
    named = _text(env, "regrow_baseline")
    if named:
        return (Path(named),)
    statistics = _place(env, "baseline_statistics", base)
    state = _channel(env, "regrow_state", base, "state")
    beside = () if statistics is None else (statistics.parent,)
    earlier = () if state is None else (state,)
    return (*beside, base / "processing" / "baseline", *earlier, IMAGE_BASELINE)


def _options(env: Mapping[str, str]) -> dict[str, str]:
    names = [name for name in env if name.startswith(OWN) and name not in PLACES]
    return {name.removeprefix(OWN): _text(env, name) for name in sorted(names)}


def _channel(env: Mapping[str, str], name: str, base: Path, folder: str) -> Path | None:
    """Return a further input of the job, where it has one."""
    given, usual = _place(env, name, base), base / "processing" / folder
    if given is not None and not given.is_dir():
        raise BadInput(f"{name} is {given}, where no folder is; check the job's inputs")
    return given or (usual if usual.is_dir() else None)


def _place(env: Mapping[str, str], name: str, base: Path) -> Path | None:
    """Return a path of the platform's, below the folder of the contract; None if none is given."""
    text = _text(env, name)
    if not text:
        return None
    path = PurePosixPath(text)
    inner = next((path.relative_to(own) for own in (ROOT, base) if path.is_relative_to(own)), None)
    if inner is None or ".." in path.parts:
        raise BadInput(f"{name} is {text[:80]!r}; the platform's paths lie below {ROOT}")
    return base / inner


def _text(env: Mapping[str, str], name: str) -> str:
    text = env.get(name, "").strip()
    if not is_printable(text) or len(text) > LONGEST:
        raise BadInput(f"{name} is {ascii(text)[:80]}, which is no text of the platform's")
    return text
