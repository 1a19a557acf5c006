"""The ONNX graph of a task, and the version of its operators."""
