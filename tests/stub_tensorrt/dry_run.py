"""Takes our plugins through the steps of an engine build, on bindings of TensorRT that can't build.

TensorRT's own Python side (`_TemplateAOTPlugin`) calls our functions and checks what they return,
as it would for a builder; only the builder's expressions of shapes are stood in for, by numbers.

`python dry_run.py CAPABILITY PTX_VERSION` prints one JSON object per plugin and tactic.
"""

import json
import sys
from types import SimpleNamespace

import tensorrt as trt
import tensorrt.plugin as trtp
from tensorrt.plugin import _lib, _plugin_class, _tensor

from edge_codec.kernels.plugin import NAMES, NAMESPACE, PluginTarget, register_plugins

SHAPES = {
    "CodebookLookup": [
        [((2, 30, 41, 64), "HALF"), ((2000, 64), "HALF"), ((2000,), "FLOAT")],
        [((5, 12), "HALF"), ((50, 12), "HALF"), ((50,), "FLOAT")],
    ],
    "ShortAttention": [
        [((3, 8, 288, 64), "HALF"), ((3, 8, 50, 64), "HALF"), ((3, 8, 50, 64), "HALF")],
    ],
}


class Number:
    """An `IDimensionExpr` of a known value."""

    def __init__(self, value):
        self.value = value

    def is_constant(self):
        return True

    def get_constant_value(self):
        return self.value

    def is_size_tensor(self):
        return False


class Arithmetic:
    """An `IExprBuilder` of known values."""

    def constant(self, value):
        return Number(value)

    def operation(self, kind, a, b):
        operations = trt.DimensionOperation
        values = {
            operations.SUM: a.value + b.value,
            operations.SUB: a.value - b.value,
            operations.PROD: a.value * b.value,
        }
        if kind in (operations.FLOOR_DIV, operations.CEIL_DIV):
            values[operations.FLOOR_DIV] = a.value // b.value
            values[operations.CEIL_DIV] = -(-a.value // b.value)
        return Number(values[kind])


class Scalars(list):
    """An `ISymExprs` to fill in."""

    nbSymExprs = 0  # noqa: N815 (TensorRT's name)

    def __setitem__(self, index, value):
        assert index == len(self)
        self.append(value)


def described(shape, kind):
    """Return a tensor as a builder describes it."""
    tensor = trt.DynamicPluginTensorDesc()
    tensor.desc.dims = shape
    tensor.desc.type = getattr(trt.DataType, kind)
    tensor.desc.format = trt.TensorFormat.LINEAR
    return tensor


def build(name, inputs):
    """Yield a report for every tactic that the plugin offers."""
    plugin_def = _lib.QDP_REGISTRY[f"{NAMESPACE}::{name}"]
    plugin = _plugin_class._TemplateAOTPlugin(name, NAMESPACE, plugin_def.num_outputs)
    plugin.init(
        plugin_def.register_func,
        {},
        plugin_def.aot_impl_attr_names,
        plugin_def.aot_impl_func,
        plugin_def.autotune_attr_names,
        plugin_def.autotune_func,
    )
    ranks = [len(shape) for shape, _ in inputs]
    types = plugin.get_output_data_types([getattr(trt.DataType, kind) for _, kind in inputs], ranks)
    numbers = [[Number(size) for size in shape] for shape, _ in inputs]
    (output,) = plugin.get_output_shapes(numbers, [], Arithmetic())
    output = tuple(size.value for size in output)
    tensors = [described(*tensor) for tensor in inputs]
    tensors.append(described(output, types[0].name))
    # As a builder does: all combinations of types, one tensor after the other.
    offered = plugin.get_supported_format_combinations(tensors, len(inputs))
    wanted = [tensor.desc.type for tensor in tensors]
    groups = [offered[i : i + len(tensors)] for i in range(0, len(offered), len(tensors))]
    assert wanted in [[tensor.type for tensor in group] for group in groups]
    plugin.configure_plugin(tensors[:-1], tensors[-1:])
    for tactic in plugin.get_valid_tactics():
        plugin.set_tactic(tactic)
        params, scalars = SimpleNamespace(), Scalars()
        plugin.get_launch_params(None, tensors, len(inputs), params, scalars, Arithmetic())
        symbol, ptx = plugin.get_kernel(
            [tensor.desc for tensor in tensors[:-1]], [tensors[-1].desc]
        )
        yield {
            "plugin": name,
            "tactic": tactic,
            "inputs": [shape for shape, _ in inputs],
            "output": [*output, types[0].name],
            "grid": [getattr(params, f"grid_{axis}").value for axis in "xyz"],
            "block": [getattr(params, f"block_{axis}").value for axis in "xyz"],
            "shared_bytes": params.shared_mem.value,
            "scalars": [scalar.value for scalar in scalars],
            "symbol": symbol,
            "ptx": ptx.decode(),
        }


def main():
    """Register, then build every plugin for every shape."""
    capability, ptx = int(sys.argv[1]), int(sys.argv[2])
    # Stand-ins of Python objects where the bindings make wrappers of C++ ones.
    trt.IDimensionExpr = Number
    trt.DimsExprs = lambda size: [None] * size
    _tensor.SymInt32.__call__ = lambda scalar: scalar._expr
    target = PluginTarget(capability, ptx or None)
    register_plugins(target)
    register_plugins(target)  # as for a second network
    assert list(vars(trtp.op)[NAMESPACE].__dict__.keys() & set(NAMES)) != []
    for name in NAMES:
        for inputs in SHAPES[name]:
            for report in build(name, inputs):
                print(json.dumps({"version": trt.__version__, **report}))


if __name__ == "__main__":
    main()
