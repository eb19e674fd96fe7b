"""The published graphs in the ONNX form, as they are and without their rounding: witnesses for our networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime


def plain_session(graph: bytes) -> onnxruntime.InferenceSession:
    """A graph as it is written. On a CPU without eight-bit dot products ONNX Runtime's own form of a quantised graph
    lets sums overflow 16 bits: the published style vectors are then a fifth off."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def without_rounding(graph: bytes) -> bytes:
    """A quantised graph whose activations stay floats; its weights are turned into floats as it says."""
    import onnx

    model = onnx.load_model_from_string(graph)
    held = {each.name for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" or (node.op_type == "DequantizeLinear" and node.input[0] not in held):
            node.CopyFrom(onnx.helper.make_node("Identity", [node.input[0]], [*node.output]))
    del model.graph.value_info[:]
    return model.SerializeToString()
