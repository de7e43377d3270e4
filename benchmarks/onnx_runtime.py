"""ONNX Runtime as a peer. Its models are written here, byte by byte, so that nothing else need be installed."""

import functools

import numpy as np
from benchmarks.common import AXIS
from peers import Peer

IR_VERSION, OPSET = 8, 17
TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7}  # TensorProto.DataType
INT, STRING = 2, 3  # AttributeProto.AttributeType


class OnnxRuntime(Peer):
    """A session for each model; float32."""

    def __init__(self, threads):
        super().__init__()
        import onnxruntime

        self.onnxruntime = onnxruntime
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads, self.options.inter_op_num_threads = threads, 1
        self.options.log_severity_level = 3

    def array(self, array):
        return self.onnxruntime.OrtValue.ortvalue_from_numpy(array)

    def numpy(self, result):
        return tuple(value.numpy() for value in result)

    def ways(self, operation, arrays):
        build = getattr(self, operation, None)
        if not build:
            return []
        names = ("logits", "labels")[: len(arrays)]
        shapes = [value.shape() for value in arrays]
        types = [np.float32, np.int64]
        inputs = [value_info(name, dtype, shape) for name, dtype, shape in zip(names, types, shapes, strict=False)]
        nodes, constants, outputs = build(shapes[0])
        session = self.onnxruntime.InferenceSession(
            model(nodes, constants, inputs, outputs), self.options, providers=["CPUExecutionProvider"]
        )
        return [functools.partial(session.run_with_ort_values, None, dict(zip(names, arrays, strict=True)))]

    def softmax(self, shape):
        return [node("Softmax", "logits", "probs", axis=AXIS)], [], ["probs"]

    def loss_grad(self, shape):
        """Mean loss, and the probabilities less 1 at the labels, as a training graph has it."""
        one_each = shape[:AXIS] + [1] + shape[AXIS + 1 :]
        rows = int(np.prod(one_each))
        constants = [
            tensor("class_axis", np.array([AXIS])),
            tensor("minus_one", np.full(one_each, -1, np.float32)),
            tensor("share", np.array(1 / rows, np.float32)),
        ]
        nodes = [
            node("LogSoftmax", "logits", "log_probs", axis=AXIS),
            node("Unsqueeze", "labels class_axis", "ids"),
            node("GatherElements", "log_probs ids", "picked", axis=AXIS),
            node("ReduceMean", "picked", "mean", keepdims=0),
            node("Neg", "mean", "loss"),
            node("Exp", "log_probs", "probs"),
            node("ScatterElements", "probs ids minus_one", "difference", axis=AXIS, reduction="add"),
            node("Mul", "difference share", "grad_logits"),
        ]
        return nodes, constants, ["loss", "grad_logits"]


# Messages of onnx.proto in the wire format of protocol buffers: the numbers are those of the fields.


def varint(number):
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes(encoded) + bytes([number])


def field(number, value):
    """An integer, or what has a length: a string, bytes, a message."""
    if isinstance(value, (int, np.integer)):
        return varint(number << 3) + varint(int(value))
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def repeated(number, values):
    return b"".join(field(number, value) for value in values)


def node(operator, inputs, output, **attributes):
    encoded = repeated(1, inputs.split()) + field(2, output) + field(4, operator)
    for name, value in attributes.items():
        kind, place = (STRING, 4) if isinstance(value, str) else (INT, 3)
        encoded += field(5, field(1, name) + field(place, value) + field(20, kind))
    return encoded


def tensor(name, array):
    return repeated(1, array.shape) + field(2, TYPES[array.dtype]) + field(8, name) + field(9, array.tobytes())


def value_info(name, dtype, shape):
    dimensions = repeated(1, [field(1, size) for size in shape])
    return field(1, name) + field(2, field(1, field(1, TYPES[np.dtype(dtype)]) + field(2, dimensions)))


def model(nodes, constants, inputs, outputs):
    """ModelProto; the types of the outputs are inferred."""
    named = [field(1, name) for name in outputs]
    graph = repeated(1, nodes) + field(2, "benchmark") + repeated(5, constants)
    graph += repeated(11, inputs) + repeated(12, named)
    return field(1, IR_VERSION) + field(7, graph) + field(8, field(1, "") + field(2, OPSET))
