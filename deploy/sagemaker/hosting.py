"""SageMaker's hosting contract: what the platform tells a container that serves.

Source: Amazon SageMaker Developer Guide, "Use Your Own Inference Code with Hosting Services" and
"... with Batch Transform"; the variables of multi-model containers as Triton's own container reads
them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regrow.deploy.sagemaker.contract import base_folder
from regrow.errors import BadInput

HOST, PORT = "0.0.0.0", 8080
MEGABYTE = 2**20
MAX_PAYLOAD, PAYLOAD = 100, 6  # MB of a batch transform: the most, and what it has by default
MAX_CONCURRENT, CONCURRENT = 1000, 4
TRUE, FALSE = ("true", "1"), ("false", "0", "")


@dataclass(frozen=True, slots=True)
class Hosting:
    """The facts of an endpoint or a batch transform, as the platform puts them.

    Args:
        model: The folder of the model, unpacked from its archive; None where models are loaded by
            name.
        models: The folder below which models are loaded by name; None where there is one model.
        port: The port; the platform asks from outside, so the address is `HOST`.
        max_payload: Largest body in MB that the platform sends; None where it does not say.
        max_concurrent: How many requests the platform sends at once; None where it does not say.
    """

    model: Path | None
    models: Path | None
    port: int = PORT
    max_payload: int | None = None
    max_concurrent: int | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Hosting":
        """Read the contract's variables.

        Args:
            environment: The environment's variables; None takes those of this process.

        Raises:
            BadInput: If one holds what the platform does not write there, or there is no model.
        """
        env = os.environ if environment is None else environment
        base = base_folder(env)
        is_multi_model = _flag(env, "SAGEMAKER_MULTI_MODEL")
        # Only a batch transform sets the other two, and 0 says that it sets no limit.
        is_batch = _flag(env, "SAGEMAKER_BATCH")
        payload = _number(env, "SAGEMAKER_MAX_PAYLOAD_IN_MB", 0, MAX_PAYLOAD)
        concurrent = _number(env, "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", 0, MAX_CONCURRENT)
        found = cls(
            model=None if is_multi_model else base / "model",
            models=base / "models" if is_multi_model else None,
            port=_number(env, "SAGEMAKER_BIND_TO_PORT", 1, 65535) or PORT,
            max_payload=(MAX_PAYLOAD if payload == 0 else payload or PAYLOAD) if is_batch else None,
            max_concurrent=(concurrent or CONCURRENT) if is_batch else None,
        )
        _refuse_nothing(found.model)
        return found

    @property
    def max_body(self) -> int | None:
        """Return how many bytes a body may have; None where the platform does not say."""
        return None if self.max_payload is None else self.max_payload * MEGABYTE

    def execution_parameters(self) -> dict[str, Any]:
        """Return what `/execution-parameters` answers: how a batch transform should ask.

        A picture cannot be cut into records, nor can several make one body, so each is a request.
        """
        return {
            "MaxConcurrentTransforms": self.max_concurrent or CONCURRENT,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": self.max_payload or PAYLOAD,
        }


def _refuse_nothing(model: Path | None) -> None:
    """Refuse a folder that the platform has put nothing into, by its name."""
    if model is not None and not (model.is_dir() and any(model.iterdir())):
        raise BadInput(
            f"{model}: there is no model in it; the ModelDataUrl of the model must name a "
            "model.tar.gz, as scripts/export.py --for sagemaker writes it"
        )


def _flag(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name, "").strip().lower()
    if text not in (*TRUE, *FALSE):
        raise BadInput(f"{name} is {text[:80]!r}; the platform sets true or false")
    return text in TRUE


def _number(environment: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and low <= int(text) <= high):
        raise BadInput(f"{name} is {text[:80]!r}; it must be a whole number, {low} to {high:,}")
    return int(text)
