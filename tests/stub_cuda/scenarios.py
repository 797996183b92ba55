"""What tests have the stub driver do, each in a process of its own: `scenarios.py NAME FOLDER`.

A scenario prints what it saw as JSON; FOLDER is where `tiny_kernels.py` wrote its kernels.
"""

import gc
import json
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_codec.errors import EdgeCodecError
from edge_codec.runtime.cuda_device import CudaDevice, open_cuda_device
from edge_codec.runtime.device import Function, StoredKernel

SIZE = 4000


def stored(folder: Path, name: str) -> StoredKernel:
    fields = json.loads((folder / "kernels.json").read_text("utf-8"))[name]
    return StoredKernel(
        name=name,
        function=f"tiny_kernels:{fields['symbol']}",
        constants={},
        symbol=fields["symbol"],
        arguments=tuple(fields["arguments"]),
        num_warps=fields["num_warps"],
        shared_bytes=fields["shared_bytes"],
        cubin=(folder / f"{name}.cubin").read_bytes(),
    )


def message(action: Callable[[], object]) -> str:
    """What the error of edge_codec says that an action must raise."""
    try:
        action()
    except EdgeCodecError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def opened(folder: Path) -> str:
    return message(open_cuda_device)


def earlier(folder: Path) -> int:
    return open_cuda_device().load(stored(folder, "add_80")).kernel.num_warps


def third(folder: Path) -> str:
    return message(lambda: open_cuda_device(3))


def unbound(folder: Path) -> str:
    sys.modules["cuda"] = None  # type: ignore[assignment]  # so that its import fails
    return message(open_cuda_device)


def frame(folder: Path) -> dict[str, Any]:
    """Copies and launches, first started one by one and then recorded and replayed twice."""
    device = open_cuda_device()
    add = device.load(stored(folder, "add_90"))
    x, y, out = (device.allocate(SIZE) for _ in range(3))
    host, back = device.pin(SIZE), device.pin(SIZE)
    same = []

    def work() -> None:
        device.upload(host, x)
        device.launch(add, (4, 65535, 1), [x, y, -5, out])
        device.download(x, back)

    host[:] = np.arange(SIZE) % 251
    work()
    device.synchronize()
    same.append(bool((back == host).all()))
    graph = device.record(work)
    for value in (1, 2):
        host[:] = value
        back[:] = 0
        graph.replay()
        device.synchronize()
        same.append(bool((back == value).all()))
    ordinary = np.arange(SIZE // 2, dtype=np.uint16).reshape(10, -1)
    device.upload(ordinary, y)
    read = np.zeros_like(ordinary)
    device.download(y, read)
    same.append(bool((read == ordinary).all()))
    return {
        "name": device.name,
        "capability": device.capability,
        "driver": device.driver,
        "same": same,
        "stream": device.activate(),
        "addresses": [device.address(buffer) for buffer in (x, y, out)],
    }


def forked(folder: Path) -> list[str]:
    """Two branches: recorded, then broken off by an error, then again, then started directly."""
    device = open_cuda_device()
    add = device.load(stored(folder, "add_90"))
    buffer = device.allocate(SIZE)
    host = device.pin(SIZE)

    def launch(width: int) -> Callable[[], None]:
        return lambda: device.launch(add, (width, 1, 1), [buffer, buffer, 1, buffer])

    def work() -> None:
        device.upload(host, buffer)
        device.both(launch(1), launch(2))
        device.download(buffer, host)

    device.record(work).replay()
    device.synchronize()
    said = [
        message(lambda: device.record(lambda: device.both(launch(1), launch(0)))),
        message(lambda: device.record(lambda: device.both(launch(0), launch(1)))),
        message(lambda: device.record(lambda: device.both(launch(3), work))),
    ]
    device.record(work).replay()
    device.both(launch(4), launch(5))
    device.synchronize()
    return said


def shared(folder: Path) -> None:
    device = open_cuda_device()
    product = device.load(stored(folder, "product_90"))
    buffers = [device.allocate(1 << 20) for _ in range(3)]
    device.launch(product, (1, 1, 1), [buffers[0], buffers[1], 2, buffers[2]])
    device.synchronize()


def start(device: CudaDevice, add: Function) -> None:
    """Start work on what nobody else refers to."""
    launched, copied, host = device.allocate(SIZE), device.allocate(SIZE), device.pin(SIZE)
    device.upload(host, copied)
    device.launch(add, (1, 1, 1), [launched, launched, 1, launched])
    device.download(copied, host[100:200])


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def lifetimes(folder: Path) -> int:
    """Drop everything as early as Python allows, also in other threads and during a recording."""
    device = open_cuda_device()
    add = device.load(stored(folder, "add_90"))
    start(device, add)
    gc.collect()
    device.synchronize()
    graph = device.record(lambda: start(device, add))
    unused = [device.allocate(SIZE)]

    def drop() -> None:
        unused[0] = device.allocate(10)
        start(device, add)

    other = device.record(drop)
    graph.replay()
    other.replay()
    del graph, other
    gc.collect()
    in_thread(device.synchronize)
    in_thread(unused.clear)
    start(device, add)
    return len(device._context.in_flight)  # and all goes at once, with work under way


def whole_frame(folder: Path) -> dict[str, Any]:
    """Codes a frame with real machine code, which nothing runs; see `frame_file.py`."""
    from frame_samples import frames, network, stream, token_model

    from edge_codec.runtime.gpu_frame import GpuVqvae
    from edge_codec.runtime.gpu_frame_file import read_frame_file

    file = read_frame_file((folder / "frame.engine").read_bytes())
    coder = GpuVqvae(file, network().codebook, token_model(), open_cuda_device()).coder(
        stream(9, 13)
    )
    encoder, decoder = (
        [layer.kernel.symbol for layer in engine.layers] for engine in file.engines()
    )
    said = message(lambda: coder.encode(frames(stream(9, 13), 1)[0], True))
    symbols = {name: kernel.symbol for name, kernel in file.kernels.items()}
    return {"said": said, "encoder": encoder, "decoder": decoder, **symbols}


def leave(folder: Path) -> None:
    """Ends with everything alive, and work that nobody waited for."""
    global alive
    device = open_cuda_device()
    buffer, host = device.allocate(SIZE), device.pin(SIZE)
    add = device.load(stored(folder, "add_90"))
    graph = device.record(lambda: device.launch(add, (1, 1, 1), [buffer, buffer, 1, buffer]))
    device.upload(host, buffer)
    graph.replay()
    alive = (device, buffer, host, add, graph)


def broken(folder: Path) -> list[str]:
    """Goes on after a kernel that reads an illegal address."""
    device = open_cuda_device()
    add = device.load(stored(folder, "add_90"))
    buffer = device.allocate(SIZE)
    device.launch(add, (1, 1, 1), [buffer, buffer, 1, buffer])
    said = [message(device.synchronize), message(device.synchronize)]
    return [*said, message(lambda: device.allocate(1))]


def exhausted(folder: Path) -> list[str]:
    device = open_cuda_device()
    said = [message(lambda: device.allocate(1 << 30))]
    kept = device.allocate(1 << 10)
    return [*said, f"then {kept.size}"]


def full(folder: Path) -> list[str]:
    device = open_cuda_device()
    return [message(lambda: device.pin(1 << 30)), f"then {len(device.pin(10))}"]


def calls(folder: Path) -> dict[str, str]:
    """Calls that must be refused, each followed by one that must work."""
    device = open_cuda_device()
    other = open_cuda_device()
    add = device.load(stored(folder, "add_90"))
    buffer, foreign = device.allocate(SIZE), other.allocate(SIZE)
    array, pinned = np.zeros(SIZE, np.uint8), device.pin(SIZE)
    frozen = array.copy()
    frozen.flags.writeable = False

    def launch(*arguments: Any, grid: Any = (1, 1, 1)) -> Callable[[], object]:
        return lambda: device.launch(add, grid, arguments)

    good = (buffer, buffer, 1, buffer)
    graph = device.record(launch(*good))
    attempts = {
        "too few arguments": launch(*good[:3]),
        "scratch given": launch(*good, 0, 0),
        "number for buffer": launch(1, *good[1:]),
        "buffer for number": launch(*good[:2], buffer, buffer),
        "float for number": launch(*good[:2], 1.0, buffer),
        "number too large": launch(*good[:2], 1 << 31, buffer),
        "number too small": launch(*good[:2], -(1 << 31) - 1, buffer),
        "array for buffer": launch(array, *good[1:]),
        "buffer of another": launch(foreign, *good[1:]),
        "kernel of another": lambda: other.launch(add, (1, 1, 1), (foreign, foreign, 1, foreign)),
        "grid of none": launch(*good, grid=(0, 1, 1)),
        "grid too wide": launch(*good, grid=(1 << 31, 1, 1)),
        "grid too high": launch(*good, grid=(1, 65536, 1)),
        "grid too deep": launch(*good, grid=(1, 1, 65536)),
        "grid of two": launch(*good, grid=(1, 1)),
        "grid of four": launch(*good, grid=(1, 1, 1, 1)),
        "upload too large": lambda: device.upload(np.zeros(SIZE + 1, np.uint8), buffer),
        "upload of nothing": lambda: device.upload(array[:0], buffer),
        "upload with gaps": lambda: device.upload(array[::2], buffer),
        "upload of objects": lambda: device.upload(np.array([None]), buffer),
        "address in another": lambda: device.address(foreign),
        "upload to another": lambda: device.upload(array, foreign),
        "download too large": lambda: device.download(buffer, np.zeros(SIZE + 1, np.uint8)),
        "download to frozen": lambda: device.download(buffer, frozen),
        "allocate nothing": lambda: device.allocate(0),
        "allocate less": lambda: device.allocate(-1),
        "pin nothing": lambda: device.pin(0),
        "record unpinned": lambda: device.record(lambda: device.upload(array, buffer)),
        "record in record": lambda: device.record(lambda: device.record(launch(*good)) and None),
        "replay in record": lambda: device.record(graph.replay),
        "wait in record": lambda: device.record(device.synchronize),
    }
    said = {}
    for name, attempt in attempts.items():
        said[name] = message(attempt)
        device.upload(pinned, buffer)
        device.record(launch(*good)).replay()
        device.synchronize()
    return said


def kernels(folder: Path) -> dict[str, str]:
    """Kernels that must not load, on a device of capability 90."""
    device = open_cuda_device()
    add = stored(folder, "add_90")
    altered = {
        "other architecture": stored(folder, "add_80"),
        "no machine code": replace(add, cubin=b"PTX"),
        "half of it": replace(add, cubin=add.cubin[: len(add.cubin) // 2]),
        "no such symbol": replace(add, symbol="sub_kernel"),
        "one argument less": replace(add, arguments=add.arguments[1:]),
        "one argument more": replace(add, arguments=("*i32", *add.arguments)),
        "number for pointer": replace(add, arguments=("i32", *add.arguments[1:])),
        "a float": replace(add, arguments=("*i32", "*i32", "fp32", "*i32")),
        "no warps": replace(add, num_warps=0),
        "64 warps": replace(add, num_warps=64),
        "too much shared memory": replace(add, shared_bytes=232449),
        "negative shared memory": replace(add, shared_bytes=-1),
    }

    def load(kernel: StoredKernel) -> Callable[[], object]:
        return lambda: device.load(kernel)

    said = {name: message(load(kernel)) for name, kernel in altered.items()}
    device.load(add)
    return said


def main() -> None:
    scenario: Callable[[Path], Any] = globals()[sys.argv[1]]
    seen = scenario(Path(sys.argv[2]))
    gc.collect()
    print(json.dumps(seen))


alive: tuple[CudaDevice | object, ...] = ()
if __name__ == "__main__":
    main()
