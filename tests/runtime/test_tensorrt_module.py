"""Which TensorRT is taken, and what is said of one that does not do."""

import json
import logging
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
from stub_bindings import VERSIONS, environment

from edge_codec.errors import EngineError
from edge_codec.runtime import tensorrt_module
from edge_codec.runtime.tensorrt_module import TensorRt, TrtLog, load_tensorrt


@pytest.fixture
def modules(monkeypatch):
    """Install modules: name -> version, or the error of their import."""

    def install(**versions):
        monkeypatch.setattr(tensorrt_module, "installed_flavors", lambda: tuple(sorted(versions)))
        real = tensorrt_module.importlib.import_module

        def load(name):
            version = versions.get(name)
            if isinstance(version, Exception):
                raise version
            if version is None:
                return real(name)
            module = ModuleType(name)
            module.__version__ = version
            return module

        monkeypatch.setattr(tensorrt_module.importlib, "import_module", load)

    return install


def test_tensorrt_goes_before_rtx(modules):
    modules(tensorrt="10.16.1.11", tensorrt_rtx="1.7.1.116")
    assert load_tensorrt().name == "TensorRT 10.16.1.11"
    assert load_tensorrt(("tensorrt_rtx",)).name == "TensorRT-RTX 1.7.1.116"
    assert load_tensorrt().release == (10, 16)


def test_none_is_installed(modules):
    modules()
    with pytest.raises(EngineError, match=r"pip install 'edge-codec\[tensorrt\]' or pip install"):
        load_tensorrt()
    modules(tensorrt_rtx="1.7")
    with pytest.raises(EngineError, match="TensorRT is not installed"):
        load_tensorrt(("tensorrt",))


@pytest.mark.parametrize("version", ["8.6.1", "10.2.9", "", "unheard of"])
def test_versions_that_are_too_old(modules, version):
    modules(tensorrt=version)
    with pytest.raises(EngineError, match=r"install 10\.3 or newer"):
        load_tensorrt()


@pytest.mark.parametrize(
    "error", [ImportError("libnvinfer.so.10: cannot open"), OSError("x"), RuntimeError("x")]
)
def test_libraries_that_are_missing(modules, error):
    modules(tensorrt=error)
    with pytest.raises(EngineError, match=r"does not load \(.*\); install the TensorRT libraries"):
        load_tensorrt()


def test_importing_this_imports_no_tensorrt():
    assert "tensorrt" not in sys.modules


def test_errors_are_kept_for_the_exception_and_the_rest_is_logged(caplog):
    class Interface:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)

    log = TrtLog(TensorRt(SimpleNamespace(ILogger=Interface), "tensorrt", "10.3.0"))
    with caplog.at_level(logging.DEBUG):
        for severity, message in enumerate(["bad ", "worse", "hm", "so", "chatter"]):
            log.sink.log(severity, message)
        log.sink.log(1, "worse")
    assert log.take_errors() == "bad; worse"
    assert log.take_errors() == "it gave no reason"
    assert caplog.messages == ["TensorRT 10.3.0: hm", "TensorRT 10.3.0: so"]
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.DEBUG]


USED = {
    "Builder": "create_network create_builder_config create_optimization_profile "
    "build_serialized_network",
    "BuilderFlag": "TF32",
    "IBuilderConfig": "clear_flag add_optimization_profile create_timing_cache set_timing_cache "
    "get_timing_cache",
    "ICudaEngine": "num_io_tensors get_tensor_name get_tensor_mode get_tensor_dtype "
    "get_tensor_profile_shape create_execution_context",
    "IExecutionContext": "set_input_shape get_tensor_shape set_tensor_address execute_async_v3",
    "ILogger": "Severity log",
    "IOptimizationProfile": "set_shape",
    "ITimingCache": "serialize",
    "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
    "OnnxParser": "parse num_errors get_error",
    "Runtime": "deserialize_cuda_engine",
    "TensorIOMode": "INPUT",
}
"""All that this package uses, by class. Of TensorRT 10.3 there is no wheel to compare with."""

NAMES = ["nptype", *(f"{kind}.{name}" for kind, names in USED.items() for name in names.split())]

MISSING = """
import importlib, json, operator, sys
module = importlib.import_module(sys.argv[1])
def has(name):
    try:
        operator.attrgetter(name)(module)
    except AttributeError:
        return False
    return True
print(json.dumps([name for name in sys.argv[2:] if not has(name)]))
"""


def missing(module, environment, names):
    command = [sys.executable, "-c", MISSING, module, *names]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_has_what_is_used(version):
    plugins = ["NetworkDefinitionCreationFlag.PREFER_AOT_PYTHON_PLUGINS"]
    assert missing("tensorrt", environment(version), [*NAMES, *plugins]) == []


def test_rtx_has_what_is_used():
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this machine")
    rtx = ["ComputeCapability.SM86", "IBuilderConfig.set_compute_capability"]
    assert missing("tensorrt_rtx", None, [*NAMES, *rtx]) == []
    assert missing("tensorrt_rtx", None, ["Builder.forget"]) == ["Builder.forget"]
