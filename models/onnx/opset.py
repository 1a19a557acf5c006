"""Conversion of an ONNX model to another opset (version of its operators)."""

import onnx
from onnx import version_converter
from onnx.helper import find_min_ir_version_for, get_attribute_value

from regrow.errors import BadInput

OLDEST = 7  # the oldest opset that ONNX's converter knows
# Operators whose attribute of opset 18 states, by 0, what older ones do anyway. The converter keeps
# it, and no older operator has it.
NEW_FLAGS = {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL2", "ReduceProd"}
NEW_FLAG = "noop_with_empty_axes"


def in_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Convert a model to an opset, with the oldest file format that supports it.

    Args:
        model: The model.
        opset: The opset.

    Raises:
        BadInput: If the model cannot be converted; the message names the opsets that are possible.
    """
    has, newest = _opset(model), onnx.defs.onnx_opset_version()
    if opset == has:
        return model
    found = _converted(model, opset) if OLDEST <= opset <= newest else None
    if found is None:
        low, high = has, has
        while low > max(OLDEST, opset) and _converted(model, low - 1) is not None:
            low -= 1
        while high < min(newest, opset) and _converted(model, high + 1) is not None:
            high += 1
        raise BadInput(
            f"opset {opset}: the network cannot be had in these operators of ONNX; it can in "
            f"{low}{f' to {high}' if high > low else ''}"
        )
    return found


def _opset(model: onnx.ModelProto) -> int:
    entries = (entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return int(next(entries).version)


def _converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto | None:
    """Convert a model and check the result; None if that fails."""
    given = onnx.ModelProto()
    given.CopyFrom(model)
    for node in given.graph.node:
        if node.op_type in NEW_FLAGS:
            kept = [a for a in node.attribute if a.name != NEW_FLAG or get_attribute_value(a)]
            del node.attribute[:]
            node.attribute.extend(kept)
    try:
        found = version_converter.convert_version(given, opset)
        found.ir_version = find_min_ir_version_for(found.opset_import)
        onnx.checker.check_model(found, full_check=True)
    except (RuntimeError, ValueError, onnx.checker.ValidationError):
        return None
    return found if _opset(found) == opset else None
