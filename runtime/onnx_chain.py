"""Walks along an ONNX graph that is a chain of nodes, each of which reads the one before."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_codec.errors import EngineError
from edge_codec.runtime.onnx_graph import Node, read_graph

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
        graph = read_graph(model)
        self._constants = graph.constants
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise EngineError(
                f"a network of {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; our "
                "engines have one of each"
            )
        self._makers = {name: node for node in graph.nodes for name in node.output}
        self._left = [node for node in graph.nodes if node.op_type not in SIZE_OPERATORS]
        self._tensor = graph.inputs[0]
        self._output = graph.outputs[0]

    @property
    def ended(self) -> bool:
        """Whether the chain has arrived at the output."""
        return self._tensor == self._output

    def next(self) -> Node:
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
        return not self.ended and self.next().op_type == operator

    def ends_after_next(self) -> bool:
        """Whether the next node is the last."""
        return self._output in self.next().output

    def take(self, operator: str, at: int = 0, **attributes: Any) -> Node:
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

    def maker(self, node: Node, at: int, operator: str) -> Node:
        """Return the node that makes another's input out of constants."""
        made = self._makers.get(node.input[at])
        if made is None or (made.domain, made.op_type) != ("", operator):
            raise self.refuse(node, f"takes '{node.input[at]}', which no {operator} made")
        self._leave(made)
        return made

    def _leave(self, node: Node) -> None:
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

    def attributes(self, node: Node) -> dict[str, Any]:
        """Return a node's attributes by name."""
        return node.attributes

    def constant(self, node: Node, at: int) -> NDArray[Any]:
        """Return a node's input, which must be a constant.

        Raises
        ------
        EngineError
            If it is none.
        """
        if len(node.input) <= at or node.input[at] not in self._constants:
            raise self.refuse(node, f"has no constant as input {at}")
        return self._constants[node.input[at]]

    def exponents(self, node: Node) -> NDArray[np.int64]:
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

    def refuse(self, node: Node, why: str) -> EngineError:
        """Return an error that names a node."""
        return EngineError(
            f"node '{node.name}' ({node.op_type}) {why}; our engines run integer chains as "
            "edge_codec.export.qdq makes them, use another backend for this network"
        )
