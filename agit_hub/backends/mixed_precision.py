"""Mixed precision: 16 bits for most of a generator, float32 for attention and the generator's start.

A map is steep at its edges, and rounding moves them. A generator's first convolutions see flat areas,
where instance norm amplifies small differences, rounding included, and every block inherits the errors of
the blocks before it.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import Tensor, nn

from agit_hub.backends.exportable import ExportableDirection
from agit_hub.backends.runtimes import openvino_core
from agit_hub.models.generator import ResnetGenerator
from agit_hub.models.layers import ResidualBlock

# Residual blocks of exported generators that stay in float32, if there are more.
_FLOAT32_BLOCKS = 3
# A generator's residual additions, which cost next to nothing.
_SUM_LAYERS = ("Add", "ReLU")
# How an OpenVINO file marks a layer that keeps its precision.
_KEEP_PRECISION = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}


def generate(generator: nn.Module, images: Tensor, dtype: torch.dtype) -> Tensor:
    """Run a generator in PyTorch with its encoder in float32 and all that follows in `dtype`."""
    assert isinstance(generator, ResnetGenerator)
    encoded = generator.encode(images)
    with torch.autocast(images.device.type, dtype):
        return generator.decode(encoded, images)


def float32_nodes(network: Any, direction: ExportableDirection) -> set[str]:
    """Return the names of the nodes of an ONNX model that stay in float32."""
    nodes = {node.name: node for node in network.graph.node}
    producers = {output: node.name for node in nodes.values() for output in node.output}
    first_float16 = _first_float16_weights(direction)
    boundaries = [node.input[0] for node in nodes.values() if first_float16 & set(node.input)]
    return _ancestors(
        [producers[tensor] for tensor in ("attention", *boundaries)],
        lambda name: [producers[tensor] for tensor in nodes[name].input if tensor in producers],
    )


def remove_round_trip_casts(network: Any) -> None:
    """Remove from a float16 ONNX model the casts to float16 that are immediately undone."""
    from onnx import TensorProto

    casts = [node for node in network.graph.node if node.op_type == "Cast"]
    sources = {
        cast.output[0]: cast.input[0]
        for cast in casts
        if cast.attribute[0].i == TensorProto.FLOAT16
    }
    for cast in casts:
        if cast.attribute[0].i == TensorProto.FLOAT:
            cast.input[0] = sources.get(cast.input[0], cast.input[0])


def mark_float32_layers(network: Any, direction: ExportableDirection, scratch: Path) -> Any:
    """Return an OpenVINO model, read again from `scratch`, whose float32 layers are marked."""
    import openvino

    first_float16 = _first_float16_weights(direction)
    inputs = {
        layer.get_friendly_name(): [
            value.get_node().get_friendly_name() for value in layer.input_values()
        ]
        for layer in network.get_ops()
    }
    boundaries = [names[0] for names in inputs.values() if first_float16 & set(names)]
    attention = network.output("attention").get_node().get_friendly_name()
    kept = _ancestors([attention, *boundaries], inputs.__getitem__)
    path = scratch / "marked.xml"
    openvino.save_model(network, path, compress_to_fp16=False)
    tree = ElementTree.parse(path)
    for layer in tree.getroot().iter("layer"):
        kind = layer.get("type")
        if kind in _SUM_LAYERS or (
            layer.get("name") in kept and kind not in ("Parameter", "Result")
        ):
            info = layer.find("rt_info")
            if info is None:
                info = ElementTree.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, info)
            ElementTree.SubElement(info, "attribute", _KEEP_PRECISION)
    tree.write(path)
    return openvino_core().read_model(path)


def _first_float16_weights(direction: ExportableDirection) -> set[str]:
    """Return the name of each generator's first convolution weight in float16."""
    names = set()
    for prefix, network in direction.named_modules():
        if isinstance(network, ResnetGenerator):
            modules = network.named_modules(prefix=prefix)
            blocks = [name for name, module in modules if isinstance(module, ResidualBlock)]
            names |= {f"{name}.body.0.weight" for name in blocks[: _FLOAT32_BLOCKS + 1][-1:]}
    return names


def _ancestors(names: Iterable[str], inputs: Callable[[str], Iterable[str]]) -> set[str]:
    """Return nodes of a graph and all their direct and indirect inputs."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += inputs(name)
    return found
