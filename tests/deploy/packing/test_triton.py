"""`config.pbtxt` is read by protobuf's own parser, and says what the graph says."""

from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from regrow.deploy.packing.triton import MAX_BATCH, config_pbtxt

# Source: triton-inference-server/common, protobuf/model_config.proto, in part.
FIELDS: dict[str, list[tuple[str, int, str, bool]]] = {
    "ModelInput": [("name", 1, "string", False), ("data_type", 2, "DataType", False),
                   ("dims", 4, "int64", True)],
    "ModelOutput": [("name", 1, "string", False), ("data_type", 2, "DataType", False),
                    ("dims", 3, "int64", True)],
    "ModelDynamicBatching": [("preferred_batch_size", 1, "int32", True),
                             ("max_queue_delay_microseconds", 2, "uint64", False)],
    "ModelConfig": [("name", 1, "string", False), ("platform", 2, "string", False),
                    ("max_batch_size", 4, "int32", False), ("input", 5, "ModelInput", True),
                    ("output", 6, "ModelOutput", True),
                    ("dynamic_batching", 11, "ModelDynamicBatching", False)],
}  # fmt: skip
TYPES = ["INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32",
         "INT64", "FP16", "FP32", "FP64", "STRING", "BF16"]  # fmt: skip
ORT = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32", "tensor(int64)": "INT64"}


def _parsed(text: str) -> Any:
    """Read text as a ModelConfig; unknown fields and types are errors."""
    file = descriptor_pb2.FileDescriptorProto(name="m.proto", package="t", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    enum = file.enum_type.add(name="DataType")
    for number, name in enumerate(TYPES):
        enum.value.add(name=f"TYPE_{name}", number=number)
    for message, fields in FIELDS.items():
        made = file.message_type.add(name=message)
        for name, number, kind, is_repeated in fields:
            label = kinds.LABEL_REPEATED if is_repeated else kinds.LABEL_OPTIONAL
            field = made.field.add(name=name, number=number, label=label)
            if kind in FIELDS or kind == "DataType":
                field.type = kinds.TYPE_ENUM if kind == "DataType" else kinds.TYPE_MESSAGE
                field.type_name = f".t.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))
    return text_format.Parse(text, config())


@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
def test_the_configuration_says_what_onnx_runtime_says(
    kind: str, exported: dict[str, tuple[Any, Path]]
) -> None:
    _, path = exported[kind]
    config = _parsed(config_pbtxt("regrow", onnx.load(path).graph))
    assert (config.name, config.platform) == ("regrow", "onnxruntime_onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    is_batched = kind != "boxes"
    assert config.max_batch_size == (MAX_BATCH if is_batched else 0)
    assert config.HasField("dynamic_batching") == is_batched
    for given, known in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        assert [port.name for port in given] == [port.name for port in known]
        assert [TYPES[port.data_type] for port in given] == [ORT[port.type] for port in known]
        shapes = [[d if isinstance(d, int) else -1 for d in port.shape] for port in known]
        # Triton adds the dimension of the batch itself.
        whole = [[*([-1] if is_batched else []), *port.dims] for port in given]
        assert whole == shapes


def _graph(first: Any, last: Any) -> onnx.GraphProto:
    made = [
        onnx.helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("in", onnx.TensorProto.FLOAT16, [first, 3]),
            ("out", onnx.TensorProto.BOOL, [last, "any", 2]),
        )
    ]
    return onnx.helper.make_graph([], "g", made[:1], made[1:])


@pytest.mark.parametrize(
    ("first", "last", "is_batched"),
    [("n", "n", True), ("n", "m", False), (2, 2, False), (None, None, False), ("n", None, False)],
)
def test_only_rows_of_one_batch_are_batched(first: Any, last: Any, is_batched: bool) -> None:
    config = _parsed(config_pbtxt('a "b"', _graph(first, last)))
    assert config.name == 'a "b"'
    assert (config.max_batch_size > 0) == is_batched
    assert list(config.output[0].dims)[-2:] == [-1, 2]
    assert [TYPES[port.data_type] for port in (*config.input, *config.output)] == ["FP16", "BOOL"]
