"""Walks along an ONNX graph that is a chain of nodes, each of which reads the one before."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from edge_codec.errors import EngineError

SIZE_OPERATORS = {"Shape", "Div", "Mul", "Slice", "Concat"}
"""What computes sizes. Its results are no part of the chain; only Reshapes may take them."""


class Chain:
    """The nodes from a network's only input to its only output, one after the other.

    Parameters
    ----------
    model : bytes
        ONNX file.

    Raises
    ------
    EngineError
        If it is no ONNX file, or has several inputs or outputs.
    """

    def __init__(self, model: bytes) -> None:
        try:
            graph = onnx.load_model_from_string(model).graph
            self._constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
        except Exception as error:  # protobuf and onnx raise classes of no common base
            raise EngineError(f"{len(model)} bytes are no ONNX file: {error}") from error
        if len(graph.input) != 1 or len(graph.output) != 1:
            raise EngineError(
                f"a network of {len(graph.input)} inputs and {len(graph.output)} outputs; the GPU "
                "engine has one of each"
            )
        self._makers: dict[str, NodeProto] = {
            name: node for node in graph.node for name in node.output
        }
        self._left: list[NodeProto] = [
            node for node in graph.node if node.op_type not in SIZE_OPERATORS
        ]
        self._tensor = graph.input[0].name
        self._output = graph.output[0].name

    @property
    def ended(self) -> bool:
        """Whether the chain has arrived at the output."""
        return bool(self._tensor == self._output)

    def next(self) -> NodeProto:
        """Return the node that reads the chain's end.

        Raises
        ------
        EngineError
            If there is none, or several.
        """
        readers = [node for node in self._left if self._tensor in node.input]
        if len(readers) != 1:
            names = ", ".join(node.name for node in readers) or "no node"
            raise EngineError(f"tensor '{self._tensor}' is read by {names}; expected one node")
        return readers[0]

    def sees(self, operator: str) -> bool:
        """Whether the next node is of this operator."""
        return not self.ended and bool(self.next().op_type == operator)

    def ends_after_next(self) -> bool:
        """Whether the next node is the last."""
        return self._output in self.next().output

    def take(self, operator: str, at: int = 0, **attributes: Any) -> NodeProto:
        """Go on to the next node.

        Parameters
        ----------
        operator : str
            What it must be.
        at : int
            Which of its inputs the chain is.
        **attributes
            What it may say, and with which value; None for any.

        Raises
        ------
        EngineError
            If it is another node.
        """
        node = self.next()
        found = self.attributes(node)
        wrong = [
            name
            for name, value in found.items()
            if name not in attributes or attributes[name] not in (None, value)
        ]
        if (node.domain, node.op_type, node.input[at]) != ("", operator, self._tensor) or wrong:
            raise self.refuse(node, f"says {found}; expected {operator} {attributes or ''}".strip())
        self._leave(node)
        self._tensor = node.output[0]
        return node

    def maker(self, node: NodeProto, at: int, operator: str) -> NodeProto:
        """Return the node that makes another's input out of constants."""
        made = self._makers.get(node.input[at])
        if made is None or (made.domain, made.op_type) != ("", operator):
            raise self.refuse(node, f"takes '{node.input[at]}', which no {operator} made")
        self._leave(made)
        return made

    def _leave(self, node: NodeProto) -> None:
        self._left = [other for other in self._left if other is not node]

    def finish(self) -> None:
        """Check that nothing is left over.

        Raises
        ------
        EngineError
            If a node was not passed.
        """
        if not self.ended:
            raise self.refuse(self.next(), "stands where the network should end")
        if self._left:
            raise self.refuse(self._left[0], "is no part of the chain from input to output")

    def attributes(self, node: NodeProto) -> dict[str, Any]:
        """Return a node's attributes by name."""
        return {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def constant(self, node: NodeProto, at: int) -> NDArray[Any]:
        """Return a node's input, which must be a constant.

        Raises
        ------
        EngineError
            If it is none.
        """
        if len(node.input) <= at or node.input[at] not in self._constants:
            raise self.refuse(node, f"has no constant as input {at}")
        return self._constants[node.input[at]]

    def exponents(self, node: NodeProto) -> NDArray[np.int64]:
        """Return the exponents of a node's scale, its second input.

        Raises
        ------
        EngineError
            If it is not a power of two.
        """
        mantissas, exponents = np.frexp(self.constant(node, 1).astype(np.float64))
        if (mantissas != 0.5).any():
            raise self.refuse(node, "has a scale that is not a power of two")
        return np.asarray(exponents, np.int64) - 1

    def refuse(self, node: NodeProto, why: str) -> EngineError:
        """Return an error that names a node."""
        return EngineError(
            f"node '{node.name}' ({node.op_type}) {why}; the GPU engine runs integer chains as "
            "edge_codec.export.qdq makes them, use another backend for this network"
        )
