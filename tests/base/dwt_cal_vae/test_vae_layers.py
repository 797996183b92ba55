"""Integer layers against plain arithmetic, in every build."""

from __future__ import annotations

import numpy as np
import pytest
from vae_builds import builds

from edge_codec.base.dwt_cal_vae import layers
from edge_codec.base.dwt_cal_vae.layers import Layer, Units, join, read_weights
from edge_codec.errors import EngineError

BUILDS = builds()


def arrays(
    rng: np.random.Generator,
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    **kind: bool,
) -> dict[str, np.ndarray]:
    depth = 1 if kind.get("depthwise") else inputs
    return {
        "a.weight": rng.integers(-90, 91, (outputs, kernel, kernel, depth)).astype(np.int16),
        "a.bias": rng.integers(-(10**6), 10**6, (64, outputs)).astype(np.int32),
        "a.shift": rng.integers(1, 16, outputs).astype(np.int32),
        "a.kind": np.array(
            [stride, kind.get("depthwise", False), kind.get("rectified", False)], np.int32
        ),
    }


def expected(parts: dict[str, np.ndarray], image: np.ndarray, quality: int, addend) -> np.ndarray:
    """The sums of docs/bitstream.md, 14.2, one by one."""
    weight, (stride, alone, rectified) = parts["a.weight"].astype(int), parts["a.kind"]
    k = weight.shape[1]
    rows, columns = (-(-side // stride) for side in image.shape[:2])
    out = np.zeros((rows, columns, len(weight)), int)
    wide = np.pad(image.astype(int), ((k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    for y, x in np.ndindex(rows, columns):
        part = wide[y * stride : y * stride + k, x * stride : x * stride + k]
        if alone:
            out[y, x] = (part * weight[..., 0].transpose(1, 2, 0)).sum(axis=(0, 1))
        else:
            out[y, x] = (weight * part).sum(axis=(1, 2, 3))
    out = (out + parts["a.bias"][quality]) >> parts["a.shift"]
    return np.clip(out + (0 if addend is None else addend), 0 if rectified else -32768, 32767)


SHAPES = {
    "pointwise": ((3, 5, 6), 13, {}),
    "one position": ((1, 1, 4), 3, {"kernel": 3, "stride": 2}),
    "rectified, many outputs": ((7, 9, 16), 50, {"rectified": True}),
    "all around": ((6, 11, 10), 17, {"kernel": 3}),
    "halved": ((9, 6, 4), 16, {"kernel": 3, "stride": 2}),
    "by themselves": ((5, 7, 18), 18, {"kernel": 3, "depthwise": True}),
    "by themselves, halved": ((5, 4, 2), 2, {"kernel": 3, "stride": 2, "depthwise": True}),
}


@pytest.mark.parametrize("native", BUILDS, ids=lambda build: build.__name__.split(".")[-1])
@pytest.mark.parametrize("with_addend", [False, True])
@pytest.mark.parametrize(("shape", "outputs", "kind"), SHAPES.values(), ids=SHAPES)
def test_sums_are_exact(monkeypatch, native, shape, outputs, kind, with_addend):
    rng = np.random.default_rng(3)
    parts = arrays(rng, shape[2], outputs, **kind)
    image = rng.integers(-32768, 32768, shape).astype(np.int16)
    image.flat[:2] = -32768
    monkeypatch.setattr(layers, "native", native)
    layer = Layer(parts, "a")
    size = layer.run(image, 5).shape
    addend = rng.integers(-32768, 32768, size).astype(np.int16) if with_addend else None
    assert np.array_equal(layer.run(image, 5, addend), expected(parts, image, 5, addend))
    assert not np.array_equal(layer.run(image, 6), layer.run(image, 5))


def test_one_row_of_biases_serves_all_qualities():
    parts = arrays(np.random.default_rng(4), 4, 4)
    parts["a.bias"] = parts["a.bias"][:1]
    image = np.ones((2, 2, 4), np.int16)
    assert np.array_equal(Layer(parts, "a").run(image, 63), Layer(parts, "a").run(image, 0))


def test_sums_that_could_leave_32_bits_are_refused():
    parts = arrays(np.random.default_rng(5), 4, 4)
    parts["a.weight"][2] = 16000  # 4 * 16000 * 2**15 is still below 2**31
    parts["a.bias"][:] = 1000
    Layer(parts, "a")
    parts["a.bias"][7, 2] = 2**31 - 4 * 16000 * 2**15
    with pytest.raises(EngineError, match="layer 'a'"):
        Layer(parts, "a")


@pytest.mark.parametrize(
    "broken",
    [
        {"a.shift": np.zeros(4, np.int32)},
        {"a.shift": np.full(5, 3, np.int32)},
        {"a.weight": np.zeros((4, 2, 2, 4), np.int16)},
        {"a.weight": np.zeros((4, 1, 1, 3), np.int16)},
        {"a.weight": np.zeros((4, 1, 1, 4), np.int32)},
        {"a.kind": np.array([3, 0, 0], np.int32)},
        {"a.kind": np.array([1, 1, 0], np.int32), "a.weight": np.zeros((4, 1, 1, 2), np.int16)},
    ],
)
def test_what_is_no_layer_is_refused(broken):
    parts = arrays(np.random.default_rng(6), 4, 4) | broken
    with pytest.raises(EngineError, match="layer 'a' is missing or is none"):
        Layer(parts, "a")


def test_an_image_of_another_size_is_refused():
    layer = Layer(arrays(np.random.default_rng(6), 4, 4), "a")
    for shape in ((2, 2, 6), (0, 2, 4)):
        with pytest.raises(ValueError, match="does not fit"):
            layer.run(np.zeros(shape, np.int16))
    with pytest.raises(ValueError, match="does not fit"):
        layer.run(np.zeros((2, 2, 4), np.int16), 0, np.zeros((2, 1, 4), np.int16))


def test_stacks_add_both_branches():
    rng = np.random.default_rng(7)
    parts = {}
    shapes = {
        "expand": (4, 4, {"rectified": True}),
        "depth": (4, 4, {"kernel": 3, "depthwise": True, "rectified": True}),
        "project": (4, 4, {}),
        "widen": (4, 8, {"rectified": True}),
        "narrow": (8, 4, {}),
    }
    for name, (inputs, outputs, kind) in shapes.items():
        made = arrays(rng, inputs, outputs, **kind)
        made["a.shift"][:] = 12
        parts |= {key.replace("a.", f"s.0.{name}."): value for key, value in made.items()}
    x = rng.integers(-500, 500, (3, 4, 4)).astype(np.int16)

    def step(name: str, image: np.ndarray, addend=None) -> np.ndarray:
        made = {
            f"a.{part}": parts[f"s.0.{name}.{part}"] for part in ("weight", "bias", "shift", "kind")
        }
        return expected(made, image, 0, addend)

    y = step("project", step("depth", step("expand", x)), x)
    assert np.array_equal(Units(parts, "s").run(x), step("narrow", step("widen", y), y))
    assert np.array_equal(Units({}, "s").run(x), x)


def test_joined_channels_are_even():
    one, two = np.ones((2, 3, 1), np.int16), np.full((2, 3, 2), 2, np.int16)
    assert join(one, two).shape == (2, 3, 4)
    assert not join(one, two)[..., 3].any()
    assert join(two, two).shape == (2, 3, 4)


def test_weights_that_cannot_be_read():
    for data in (b"", b"PK\3\4 no archive", b"\x93NUMPY"):
        with pytest.raises(EngineError, match="weights cannot be read"):
            read_weights(data)
