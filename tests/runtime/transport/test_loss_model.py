from itertools import groupby

import pytest

from benchmarks.loss_model import GilbertLoss
from benchmarks.lossy_link import Impairment, LossyLink
from edge_codec.errors import SpecError

STEPS = 200_000


def observed(model):
    run = model.run()
    lost = [run.lost() for _ in range(STEPS)]
    bursts = [sum(1 for _ in group) for is_lost, group in groupby(lost) if is_lost]
    return sum(lost) / STEPS, sum(bursts) / max(len(bursts), 1)


@pytest.mark.parametrize(
    "model",
    [
        GilbertLoss.of_rate(0.01, 1, seed=1),
        GilbertLoss.of_rate(0.05, 4, seed=2),
        GilbertLoss(0.02, 0.25, 0.001, 0.7, seed=3),
        GilbertLoss(0.3, 0.1, 0.2, 0.9, seed=4),
        GilbertLoss(1.0, 1.0, 0.0, 1.0, seed=5),
    ],
)
def test_loss_rate_and_bursts_are_those_of_theory(model):
    rate, burst = observed(model)
    assert rate == pytest.approx(model.loss_rate, rel=0.08)
    assert burst == pytest.approx(model.mean_burst, rel=0.05)


def test_the_simple_model_has_the_rate_and_burst_asked_for():
    model = GilbertLoss.of_rate(0.05, 4)
    assert model.loss_rate == pytest.approx(0.05)
    assert model.mean_burst == pytest.approx(4)
    assert model.bad_share == pytest.approx(0.05)


def test_without_losses_nothing_is_lost():
    assert observed(GilbertLoss.of_rate(0)) == (0, 0)
    assert GilbertLoss.of_rate(0).mean_burst == 0


def test_equal_seeds_lose_equal_datagrams():
    runs = [GilbertLoss.of_rate(0.2, 2, seed=seed).run() for seed in (7, 7, 8)]
    first, second, other = ([run.lost() for _ in range(200)] for run in runs)
    assert first == second != other


@pytest.mark.parametrize("values", [(-0.1, 1), (0.5, 1.1), (0, 0), (float("nan"), 1)])
def test_what_is_no_probability_is_refused(values):
    with pytest.raises(SpecError):
        GilbertLoss(*values)


@pytest.mark.parametrize(("rate", "burst"), [(1, 2), (-1, 2), (0.5, 0.5), (0.9, 2)])
def test_impossible_rates_are_refused(rate, burst):
    with pytest.raises(SpecError):
        GilbertLoss.of_rate(rate, burst)


def carried(impairment, count=2000):
    link = LossyLink(impairment)
    sent = [number.to_bytes(4, "little") for number in range(count)]
    for number, data in enumerate(sent):
        link.send(data, number * 1000)
    return link, sent, link.due(1 << 60)


def test_a_good_link_delays_and_no_more():
    link, sent, came = carried(Impairment(delay_ns=500))
    assert came == sent
    assert (link.carried, link.lost) == (2000, 0)
    link.send(b"late", 0)
    assert link.due(499) == []
    assert link.due(500) == [b"late"]


def test_a_link_loses_what_its_model_loses():
    link, sent, came = carried(Impairment(GilbertLoss.of_rate(0.1, 2, seed=1)))
    assert link.lost == 2000 - len(came) > 100
    assert came == [data for data in sent if data in set(came)]


def test_a_link_reorders_duplicates_and_corrupts():
    _, sent, came = carried(Impairment(reorder=0.1, reorder_ns=9000, seed=2))
    assert came != sent == sorted(came, key=sent.index)
    _, sent, came = carried(Impairment(duplicate=0.1, seed=3))
    assert 2100 < len(came) < 2300
    assert set(came) == set(sent)
    _, sent, came = carried(Impairment(corrupt=0.1, seed=4))
    wrong = [(a, b) for a, b in zip(sent, came, strict=True) if a != b]
    assert 100 < len(wrong) < 300
    for good, bad in wrong:
        difference = int.from_bytes(good, "little") ^ int.from_bytes(bad, "little")
        assert difference.bit_count() == 1
