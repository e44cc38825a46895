"""A machine's hours are shared out over what it did, to the last cent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.errors import ComparisonError
from eval.fleet.machine import Calls, MachinePrice, machine_prices, machine_shares
from routers.records import Floats

spans = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 20)).map(lambda pair: (pair[0], sum(pair))),
    min_size=1,
    max_size=30,
)


def columns(rows: list[tuple[float, ...]]) -> list[Floats]:
    return [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)]


def machine_price(calls: Calls, usd_per_hour: float, hours: float) -> MachinePrice:
    return machine_prices({"it": calls}, usd_per_hour, hours)["it"]


def test_calls_at_once_share_the_machine() -> None:
    share_N, busy_s = machine_shares(np.array([0.0, 2.0, 20.0]), np.array([6.0, 6.0, 21.0]))
    # Alone for two seconds, then half of four; the other half; alone.
    assert share_N.tolist() == [4.0, 2.0, 1.0]
    assert busy_s == 7.0


@given(spans)
def test_shares_add_up_to_the_busy_time(rows: list[tuple[float, ...]]) -> None:
    start_N, end_N = columns(rows)
    share_N, busy_s = machine_shares(start_N, end_N)
    assert share_N.sum() == pytest.approx(busy_s, abs=1e-6)
    assert (share_N >= -1e-9).all()
    assert (share_N <= end_N - start_N + 1e-9).all()


@settings(deadline=None)
@given(spans, st.integers(0, 1000))
def test_the_tokens_pay_for_the_hours(rows: list[tuple[float, ...]], seed: int) -> None:
    start_N, end_N = columns(rows)
    rng = np.random.default_rng(seed)
    tokens_2N = rng.integers(1, 2000, (2, len(rows))).astype(np.float64)
    found = machine_price(Calls(start_N, end_N, *tokens_2N), 2.5, 1.0)
    assert found.reconciled == pytest.approx(1.0, abs=1e-6)
    paid = (tokens_2N * [[found.busy.input], [found.busy.output]]).sum() / 1e6
    assert paid == pytest.approx(2.5 * found.busy_share, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("at_once", [1, 8])
def test_what_a_token_of_either_kind_takes_is_found_whatever_the_batch(at_once: int) -> None:
    rng = np.random.default_rng(3)
    input_N = rng.integers(50, 2000, 3000).astype(np.float64)
    output_N = rng.integers(5, 500, 3000).astype(np.float64)
    # So many lanes that together do what one call alone would do at once.
    took_N = (input_N * 0.002 + output_N * 0.02) * at_once
    lane_N = np.arange(3000) % at_once
    end_N = np.zeros(3000)
    for lane in range(at_once):
        end_N[lane_N == lane] = np.cumsum(took_N[lane_N == lane])
    hours = float(end_N.max()) / 3600
    found = machine_price(Calls(end_N - took_N, end_N, input_N, output_N), 3.6, hours)
    assert found.busy.output == pytest.approx(0.02 * 0.001 * 1e6, rel=0.1)
    assert found.busy.input == pytest.approx(0.002 * 0.001 * 1e6, rel=0.1)
    assert found.at_once == pytest.approx(at_once, rel=0.1)


def test_idle_time_makes_tokens_dearer_and_is_said() -> None:
    calls = Calls(*(np.array([value]) for value in (0.0, 36.0, 100.0, 50.0)))
    found = machine_price(calls, 1.0, 0.1)
    assert found.busy_share == pytest.approx(0.1)
    assert found.whole.output == pytest.approx(10 * found.busy.output)
    assert "idle time included" in found.whole.source
    assert found.whole.cache_read == 0.0


def test_calls_that_took_no_time_are_priced_by_their_tokens() -> None:
    calls = Calls(*(np.array([value]) for value in (5.0, 5.0, 100.0, 100.0)))
    found = machine_price(calls, 1.0, 1.0)
    assert found.reconciled == pytest.approx(1.0)
    assert found.busy.output == 0.0


def test_what_can_not_be_is_refused() -> None:
    calls = Calls(*(np.array([value]) for value in (0.0, 7200.0, 1.0, 1.0)))
    with pytest.raises(ComparisonError, match=r"took 2 hours of a machine .* paid for 1"):
        machine_price(calls, 1.0, 1.0)
    nothing = Calls(*(np.zeros(0) for _ in range(4)))
    with pytest.raises(ComparisonError, match="no call of it with a known number of tokens"):
        machine_price(nothing, 1.0, 1.0)


@settings(deadline=None, max_examples=30)
@given(spans, spans, st.integers(0, 1000))
def test_experts_that_share_a_machine_pay_for_it_together(
    first: list[tuple[float, ...]], second: list[tuple[float, ...]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    calls = {
        name: Calls(*columns(rows), *rng.integers(1, 2000, (2, len(rows))).astype(np.float64))
        for name, rows in (("a", first), ("b", second))
    }
    found = machine_prices(calls, 2.5, 1.0)
    paid = sum(
        (calls[name].input_N * each.whole.input + calls[name].output_N * each.whole.output).sum()
        for name, each in found.items()
    )
    assert paid / 1e6 == pytest.approx(2.5, rel=1e-6)


def test_who_shares_a_machine_pays_for_half_of_the_time_that_both_had_it() -> None:
    both = {
        "a": Calls(*(np.array([value]) for value in (0.0, 10.0, 0.0, 100.0))),
        "b": Calls(*(np.array([value]) for value in (5.0, 15.0, 0.0, 400.0))),
    }
    found = machine_prices(both, 3.6, 30 / 3600)
    assert [each.usd for each in found.values()] == pytest.approx([0.015, 0.015])
    assert [each.busy_share for each in found.values()] == pytest.approx([0.25, 0.25])
    assert found["a"].whole.output == pytest.approx(4 * found["b"].whole.output)
