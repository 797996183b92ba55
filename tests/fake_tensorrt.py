"""A GPU in host memory, and a TensorRT that runs ONNX Runtime on it: for tests of what drives them.

An engine of this TensorRT is the ONNX file itself. Recorded work does not run until it is
replayed, and what TensorRT refuses (an address missing, a shape outside of the profile, another
stream) is refused here.
"""

import ctypes
from types import SimpleNamespace

import numpy as np
import onnxruntime

from edge_codec.errors import EngineError
from edge_codec.runtime.tensorrt_module import TensorRt

STREAM = 4711
DTYPES = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(int32)": np.int32}


class FakeBuffer:
    def __init__(self, size):
        self.memory = np.full(size, 0xA5, np.uint8)
        self.size = size


class FakeGraph:
    def __init__(self, steps):
        self.steps = steps
        self.replays = 0

    def replay(self):
        self.replays += 1
        for step in self.steps:
            step()


class FakeDevice:
    """Counts what is asked of it."""

    def __init__(self, capability=89, name="Fake GPU", driver="13.0", can_record=True):
        self.name, self.capability, self.driver = name, capability, driver
        self.can_record = can_record
        self.steps = None
        self.graphs = []
        self.allocated = 0

    def activate(self):
        return STREAM

    def address(self, buffer):
        return buffer.memory.ctypes.data

    def allocate(self, size):
        self.allocated += 1
        return FakeBuffer(size)

    def pin(self, size):
        return np.full(size, 0x5A, np.uint8)

    def do(self, step):
        if self.steps is None:
            step()
        else:
            self.steps.append(step)

    def upload(self, source, target):
        def step():
            target.memory[: source.nbytes] = source.reshape(-1).view(np.uint8)

        self.do(step)

    def download(self, source, target):
        def step():
            target.reshape(-1).view(np.uint8)[:] = source.memory[: target.nbytes]

        self.do(step)

    def record(self, work):
        if not self.can_record:
            raise EngineError("capture is not permitted")
        self.steps = []
        try:
            work()
            self.graphs.append(FakeGraph(self.steps))
        finally:
            self.steps = None
        return self.graphs[-1]

    def synchronize(self):
        assert self.steps is None


class FakeContext:
    def __init__(self, engine):
        self.engine = engine
        self.shape = None
        self.addresses = {}

    def set_input_shape(self, name, shape):
        assert name == "in"
        self.shape = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        assert name == "out"
        return self.engine.session.run(None, {self.engine.onnx_input: self.zeros()})[0].shape

    def zeros(self):
        return np.zeros(self.shape, self.engine.dtypes["in"])

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return address % 4 == 0

    def execute_async_v3(self, stream):
        assert stream == STREAM
        if self.engine.fails:
            return False

        def step():
            source = _array(self.addresses["in"], self.shape, self.engine.dtypes["in"])
            result = self.engine.session.run(None, {self.engine.onnx_input: source})[0]
            _array(self.addresses["out"], result.shape, result.dtype)[...] = result

        self.engine.device.do(step)
        return True


def _array(address, shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_uint8 * size).from_address(address)
    return np.frombuffer(memory, dtype).reshape(shape)


class FakeEngine:
    num_io_tensors = 2

    def __init__(self, model, device, smallest, largest, fails):
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.onnx_input = self.session.get_inputs()[0].name
        types = self.session.get_inputs()[0].type, self.session.get_outputs()[0].type
        self.dtypes = dict(zip(("in", "out"), (DTYPES[t] for t in types), strict=True))
        self.device, self.smallest, self.largest, self.fails = device, smallest, largest, fails
        self.contexts = []

    def get_tensor_name(self, index):
        return ("in", "out")[index]

    def get_tensor_mode(self, name):
        return name

    def get_tensor_dtype(self, name):
        return self.dtypes[name]

    def get_tensor_profile_shape(self, name, profile):
        assert (name, profile) == ("in", 0)
        return self.smallest, self.smallest, self.largest

    def create_execution_context(self):
        self.contexts.append(FakeContext(self))
        return self.contexts[-1]


class FakeLogger:
    Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)


def fake_tensorrt(device, smallest=(1, 1, 1), largest=(9, 99, 99), *, fails=False, refuses=""):
    """Return a `TensorRt`; `refuses` is what it says when it does not load an engine."""
    engines = []

    class Runtime:
        def __init__(self, sink):
            self.sink = sink

        def deserialize_cuda_engine(self, data):
            if refuses:
                self.sink.log(1, refuses)
                return None
            engines.append(FakeEngine(data, device, smallest, largest, fails))
            return engines[-1]

    module = SimpleNamespace(
        ILogger=FakeLogger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(INPUT="in"),
        nptype=lambda dtype: dtype,
        engines=engines,
    )
    return TensorRt(module, "tensorrt", "10.16.1.11")
