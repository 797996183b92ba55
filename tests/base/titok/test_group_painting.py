"""Waves, tables, search and painting of groups, with tables of random numbers."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from group_samples import SIDE, group_spec, random_tables, random_tokens

from edge_codec.base.titok.groups.gathering import Gatherer, find_groups
from edge_codec.base.titok.groups.model import KEPT_SLICES, GroupModel
from edge_codec.base.titok.groups.search import TokenSearch
from edge_codec.base.titok.groups.tables import (
    IMAGES,
    GroupTables,
    cut,
    joined,
    load_group_tables,
    store_group_tables,
)
from edge_codec.base.titok.groups.waves import cycle_wave, slice_wave
from edge_codec.errors import BitstreamError, EngineError, FrameError, SpecError
from edge_codec.spec import TokensPer

GROUPINGS = pytest.mark.parametrize("per", [TokensPer.CINE, TokensPer.EXAM], ids=str)


@pytest.fixture(scope="module")
def tables() -> dict[TokensPer, GroupTables]:
    return {per: random_tables(per) for per in IMAGES}


@pytest.mark.parametrize("wave", [cycle_wave, slice_wave])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 30])
def test_waves_are_of_length_one_and_apart(wave, count):
    waves = np.stack([wave(place, count) for place in range(count)])
    products = waves.T @ waves / count
    known = np.diag(products) > 0.5
    assert known[0]
    assert np.allclose(products, np.diag(known.astype(float)), atol=1e-6)
    assert known.sum() == (min(count, 4) if wave is slice_wave else 3 if count > 2 else 1)


def test_stretches_are_cut_and_joined():
    images = np.random.default_rng(0).random((7, 3, 16, 16), np.float32)
    stretches = cut(images)
    assert stretches.shape == (7, 8, 4, 24)
    assert np.array_equal(stretches[2, 1, 3, :8].reshape(2, 4), images[2, 0, 2:4, 12:16])
    assert all(
        np.array_equal(joined(one, (3, 2, 4)), image)
        for one, image in zip(stretches, images, strict=True)
    )


@GROUPINGS
def test_what_tokens_painted_is_found_again(tables, per):
    weight = np.ones((IMAGES[per], SIDE, SIDE), np.float32)
    search = TokenSearch(tables[per], weight)
    for seed in range(3):
        tokens = random_tokens(1, seed)[0]
        images = tables[per].images_of(tokens)
        found = search.tokens(images)
        left = ((tables[per].images_of(found) - images) ** 2).mean()
        assert left < 0.05 * ((tables[per].mean - images) ** 2).mean()
    assert found.dtype == np.uint16


def test_what_is_not_shown_does_not_count(tables):
    per = TokensPer.CINE
    weight = np.ones((3, SIDE, SIDE), np.float32)
    weight[:, :, :4] = 0
    images = tables[per].images_of(random_tokens(1)[0])
    hidden = images.copy()
    hidden[:, :, :4] = 99
    search = TokenSearch(tables[per], weight)
    assert np.array_equal(search.tokens(images), search.tokens(hidden))


@GROUPINGS
def test_frames_are_gathered_into_the_images_they_are_a_sum_of(tables, per):
    spec = group_spec(per, slices=5, phases=8, side=(40, 30))
    gatherer = Gatherer(spec, per, SIDE)
    still, beating, along = 0.6, np.array([0.05, -0.1]), np.array([0.03, -0.02, 0.01])
    for place in range(5):
        base = still + slice_wave(place, 5)[1:] @ along
        for phase in range(8):
            value = base + cycle_wave(phase, 8)[1:] @ beating
            gatherer.add(np.full((40, 30), round(800 * value), np.uint32), place, phase)
    images = gatherer.images()
    assert np.ptp(images, axis=(2, 3)).max() < 1e-5
    means = images.mean(axis=(2, 3))
    if per is TokensPer.CINE:
        bases = [still + slice_wave(place, 5)[1:] @ along for place in range(5)]
        expected = np.array([[base, *beating] for base in bases])
    else:
        expected = np.zeros((1, 12))
        expected[0, ::3] = still, *along
        expected[0, 1:3] = beating
    assert np.abs(means - expected).max() < 0.005  # window codes are rounded
    assert find_groups(gatherer, spec, per, tables).tokens.shape == (len(images), 32)


def test_few_phases_and_slices_have_fewer_images(tables):
    del tables
    spec = group_spec(TokensPer.EXAM, slices=2, phases=2)
    known = Gatherer(spec, TokensPer.EXAM, SIDE).weight().any(axis=(1, 2))
    assert known.tolist() == [True, False, False] * 2 + [False] * 6


def test_frames_that_are_missing_are_told(tables):
    del tables
    gatherer = Gatherer(group_spec(), TokensPer.CINE, SIDE)
    with pytest.raises(FrameError, match="0 frames, its header says 10"):
        gatherer.images()


def test_more_slices_than_a_header_keeps_are_refused():
    spec = group_spec(TokensPer.EXAM, slices=86)
    with pytest.raises(SpecError, match="86 groups"):
        Gatherer(spec, TokensPer.CINE, SIDE)


@GROUPINGS
def test_a_coder_paints_any_frame_alone(tables, per):
    spec = group_spec(per)
    model = GroupModel(tables)
    frames = [model.coder(spec.of_slice(1)).decode(b"", phase, True) for phase in range(5)]
    assert all(frame.shape == (20, 30) and frame.dtype == np.uint32 for frame in frames)
    assert not np.array_equal(frames[0], frames[2])
    again = GroupModel(tables).coder(spec.of_slice(1))
    assert np.array_equal(again.decode(b"", 2, False), frames[2])
    payload, shown = again.encode(np.zeros((20, 30), np.uint32), 2, True)
    assert (payload, shown.tolist()) == (b"", frames[2].tolist())
    other = model.coder(spec.of_slice(0)).decode(b"", 2, True)
    assert not np.array_equal(other, frames[2])


def test_what_does_not_fit_is_refused(tables):
    spec = group_spec()
    model = GroupModel(tables)
    with pytest.raises(SpecError, match="slice_index is None"):
        model.coder(spec)
    with pytest.raises(BitstreamError, match="kind 9"):
        model.coder(replace(spec, model_data=b"\x09" * 99).of_slice(0))
    coder = model.coder(spec.of_slice(0))
    with pytest.raises(BitstreamError, match="payload has 3 bytes"):
        coder.decode(b"abc", 0, True)
    with pytest.raises(FrameError, match="the stream holds"):
        coder.encode(np.zeros((20, 31), np.uint32), 0, True)


def test_slices_beyond_those_kept_are_painted_anew(tables):
    n = KEPT_SLICES + 3
    spec = group_spec(TokensPer.EXAM, slices=n, side=(4, 4))
    model = GroupModel(tables)
    for _ in range(2):
        for place in range(n):
            model.coder(spec.of_slice(place)).decode(b"", 0, True)
    assert model.slice_images.cache_info().currsize == KEPT_SLICES


def test_tables_come_back(tables):
    found = load_group_tables(store_group_tables(tables))
    for per, one in tables.items():
        assert np.array_equal(found[per].codes, one.codes)
        assert np.array_equal(found[per].paint, one.paint)
        assert np.array_equal(found[per].mean, one.mean)


def test_tables_that_do_not_fit_are_refused(tables):
    cine = tables[TokensPer.CINE]
    for name, value in (
        ("codes", cine.codes[:99]),
        ("paint", cine.paint[:, :, :2]),
        ("mean", cine.mean * np.float32(np.nan)),
    ):
        altered = {**tables, TokensPer.CINE: replace(cine, **{name: value})}
        with pytest.raises(EngineError, match=f"cine_{name}"):
            load_group_tables(store_group_tables(altered))
    file = io.BytesIO()
    np.savez(file, cine_codes=cine.codes)
    with pytest.raises(EngineError, match="malformed"):
        load_group_tables(file.getvalue())
    with pytest.raises(EngineError, match="malformed"):
        load_group_tables(b"no zip")
