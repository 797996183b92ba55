"""What may be asked of a base layer, and what makes no sense together."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

import edge_codec
from edge_codec.errors import EngineError, SpecError
from edge_codec.runtime.base_rate import USUAL, BaseRate
from edge_codec.runtime.live_options import LiveOptions
from edge_codec.runtime.models import decoding_hashes, is_shared, load_model
from edge_codec.runtime.options import CompressOptions, parse_model
from edge_codec.runtime.phantom import heart
from edge_codec.runtime.pipeline import Pipeline
from edge_codec.spec import TITOKS, CineInfo, ModelId, StreamSpec

DTYPE = np.dtype(np.int16)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"quality": 3, "bits_per_frame": 900.0}, "exclude each other"),
        ({"quality": 64}, "integer of 0 to 63"),
        ({"quality": -1}, "integer of 0 to 63"),
        ({"quality": 3.5}, "integer of 0 to 63"),
        ({"quality": "9"}, "integer of 0 to 63"),
        ({"bits_per_frame": 7.0}, "8 or more"),
        ({"bits_per_frame": math.nan}, "8 or more"),
        ({"bits_per_frame": math.inf}, "8 or more"),
        ({"bits_per_frame": "900"}, "bits per frame is '900'"),
        ({"bits_per_frame": True}, "8 or more"),
    ],
)
def test_impossible_rates(choice, message):
    with pytest.raises(SpecError, match=message):
        BaseRate(**choice)


@pytest.mark.parametrize("model", [ModelId.NONE, ModelId.VQVAE])
@pytest.mark.parametrize("rate", [BaseRate(0), BaseRate(bits_per_frame=900)])
@pytest.mark.parametrize("make", [CompressOptions, LiveOptions])
def test_models_of_one_quality(make, model, rate):
    with pytest.raises(SpecError, match="use model dwt-cal"):
        make(model, 0, rate=rate)
    assert make(model, 0).rate is USUAL
    assert make(ModelId.DWT_CAL, None, rate=rate).rate is rate


def test_the_standard_codec_has_qualities_and_no_rate_control():
    assert CompressOptions(ModelId.VIDEO, None, rate=BaseRate(9)).rate.quality == 9
    with pytest.raises(SpecError, match="does not keep to bits per frame"):
        CompressOptions(ModelId.VIDEO, None, rate=BaseRate(bits_per_frame=900))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ModelId.VQVAE, "archive": True}, "'vqvae' has no archive order"),
        ({"model": ModelId.VIDEO, "archive": True}, "'video' has no archive order"),
        ({"psnr_db": 40.0}, "'none' has no choice of quality"),
        ({"model": ModelId.DWT_CAL, "psnr_db": 40.0}, "for a base layer alone"),
        ({"model": ModelId.DWT_CAL, "psnr_db": 40.0, "max_error": None, "rate": BaseRate(3)},
         "neither quality nor bits"),
        ({"model": ModelId.DWT_CAL, "psnr_db": -1.0, "max_error": None}, "positive number"),
        ({"model": ModelId.DWT_CAL, "psnr_db": math.nan, "max_error": None}, "positive number"),
        ({"model": ModelId.DWT_CAL, "psnr_db": "40", "max_error": None}, "psnr_db is '40'"),
        ({"model": ModelId.DWT_CAL, "psnr_db": 40.0}, "set max_error to None"),
        ({"model": ModelId.DWT_CAL, "psnr_db": 40.0, "max_error": None, "snr_loss_percent": 5.0},
         "for a base layer alone"),
    ],
)  # fmt: skip
def test_choices_for_a_file_that_exclude_each_other(options, message):
    with pytest.raises(SpecError, match=message):
        CompressOptions(**options)


@pytest.mark.parametrize("make", [CompressOptions, LiveOptions])
def test_a_backend_has_an_effect_or_is_refused(make):
    for model in (ModelId.NONE, ModelId.DWT_CAL, ModelId.VIDEO):
        with pytest.raises(SpecError, match=f"'{model.label}' has no networks for backend 'tri"):
            make(model, 0, backend="triton")
    assert make(ModelId.VQVAE, 0, backend="triton").backend == "triton"


def test_the_python_interface_refuses_them_too():
    cine = edge_codec.Cine.from_array(heart(2, 8, 8, DTYPE))
    for options in (
        {"quality": 3},
        {"archive": True},
        {"psnr_db": 40},
        {"bits_per_frame": 900},
        {"snr_loss_percent": "5"},
        {"model": "dwt-cal", "max_error": None, "psnr_db": "40"},
    ):
        with pytest.raises(SpecError):
            edge_codec.compress(cine, **options)


def test_models_by_their_names():
    for name in ("none", "vqvae", "dwt-cal", "video", "dwt-cal-vae", "titok"):
        assert parse_model(name).label == name
    assert parse_model("DWT-CAL") is ModelId.DWT_CAL
    for name in ("dwt_cal", "h264", ""):
        with pytest.raises(SpecError, match="use one of none, vqvae, dwt-cal, video"):
            parse_model(name)


def test_what_models_share():
    shared = [ModelId.NONE, ModelId.VQVAE, *TITOKS]
    assert [model for model in ModelId if is_shared(model)] == shared
    learned = [ModelId.VQVAE, ModelId.DWT_CAL_VAE, *TITOKS]
    assert [model for model in ModelId if decoding_hashes(model)] == learned
    assert load_model(ModelId.NONE) is None


def test_a_standard_codec_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EngineError, match=r"edge-codec\[video\]"):
        load_model(ModelId.VIDEO)


def test_a_live_stream_is_no_archive():
    info = CineInfo(1, 8, 16, 16, DTYPE)
    spec = StreamSpec(info, 0, 999, ModelId.DWT_CAL, archive=True)
    with Pipeline() as pipeline, pytest.raises(SpecError, match="cannot be written live"):
        pipeline.open("scanner", LiveOptions(), [], spec=spec)
