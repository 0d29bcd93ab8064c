"""What a file in 16 bits still reckons in 32: its attention, and where its generator begins.

A map is steep at its edges, and moves them for a rounding. A generator's first convolutions see flat
areas, where instance norm makes much of little, roundings included, and every block hands on what the
blocks before it got wrong.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from agit_hub.backends.exportable import Direction
from agit_hub.backends.runtimes import openvino_core
from agit_hub.models.generator import ResnetGenerator
from agit_hub.models.layers import ResidualBlock

# Residual blocks that belong to the beginning, if there are more.
_BLOCKS = 3
# What a generator adds up from block to block, which costs next to nothing.
_SUMS = ("Add", "ReLU")
# How OpenVINO's files say that a layer's numbers shall stay as they are.
_KEPT = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}


def in_onnx(network: Any, direction: Direction) -> set[str]:
    """The names of those nodes in an ONNX model of a direction."""
    nodes = {node.name: node for node in network.graph.node}
    made_by = {output: node.name for node in nodes.values() for output in node.output}
    halved = _beginnings_of_16_bits(direction)
    begins = [node.input[0] for node in nodes.values() if halved & set(node.input)]
    return _leading_to(
        [made_by[tensor] for tensor in ("attention", *begins)],
        lambda name: [made_by[tensor] for tensor in nodes[name].input if tensor in made_by],
    )


def without_detours(network: Any) -> None:
    """Take out of a halved ONNX model what goes to 16 bits and comes straight back, rounded."""
    from onnx import TensorProto

    casts = [node for node in network.graph.node if node.op_type == "Cast"]
    halved = {
        cast.output[0]: cast.input[0]
        for cast in casts
        if cast.attribute[0].i == TensorProto.FLOAT16
    }
    for cast in casts:
        if cast.attribute[0].i == TensorProto.FLOAT:
            cast.input[0] = halved.get(cast.input[0], cast.input[0])


def in_openvino(network: Any, direction: Direction, scratch: Path) -> Any:
    """An OpenVINO model of a direction, read anew from `scratch` with those layers marked."""
    import openvino

    halved = _beginnings_of_16_bits(direction)
    before = {
        layer.get_friendly_name(): [
            value.get_node().get_friendly_name() for value in layer.input_values()
        ]
        for layer in network.get_ops()
    }
    begins = [names[0] for names in before.values() if halved & set(names)]
    attention = network.output("attention").get_node().get_friendly_name()
    path = scratch / "marked.xml"
    openvino.save_model(network, path, compress_to_fp16=False)
    _mark(path, _leading_to([attention, *begins], before.__getitem__))
    return openvino_core().read_model(path)


def _mark(path: Path, kept: set[str]) -> None:
    tree = ElementTree.parse(path)
    for layer in tree.getroot().iter("layer"):
        kind = layer.get("type")
        if kind in _SUMS or (layer.get("name") in kept and kind not in ("Parameter", "Result")):
            facts = layer.find("rt_info")
            if facts is None:
                facts = ElementTree.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, facts)
            ElementTree.SubElement(facts, "attribute", _KEPT)
    tree.write(path)


def _beginnings_of_16_bits(direction: Direction) -> set[str]:
    """The weights of the first convolutions that are halved, one for each generator."""
    found = set()
    for name, network in direction.named_modules():
        if isinstance(network, ResnetGenerator):
            layers = network.named_modules(prefix=name)
            blocks = [layer for layer, block in layers if isinstance(block, ResidualBlock)]
            found |= {f"{layer}.body.0.weight" for layer in blocks[: _BLOCKS + 1][-1:]}
    return found


def _leading_to(ends: Iterable[str], before: Callable[[str], Iterable[str]]) -> set[str]:
    """Those names, and whatever comes before them."""
    found: set[str] = set()
    waiting = list(ends)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += before(name)
    return found
