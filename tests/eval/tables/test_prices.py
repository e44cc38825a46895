from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.errors import SourceError
from eval.tables.prices import fill_costs, fit_price_reports, fit_prices, read_prices
from experts.cards import Prices
from routers.records import Floats, OutcomeTable

MakeTable = Callable[..., OutcomeTable]


def tokens(seed: int, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    prompt, output = rng.integers(1, 2000, shape), rng.integers(1, 900, shape)
    return prompt.astype(np.float64), output.astype(np.float64)


@pytest.mark.parametrize(("read", "write"), [(2.5, 10.0), (0.0, 0.3), (15.0, 75.0), (1e-4, 5e-4)])
def test_prices_are_recovered_from_recorded_costs(
    read: float, write: float, make_table: MakeTable
) -> None:
    prompt_NA, output_NA = tokens(1, (50, 2))
    costs = (prompt_NA * read + output_NA * write) / 1e6
    table = make_table(np.ones((50, 2)), costs=costs, tokens=(prompt_NA, output_NA))
    fit = fit_price_reports(table)["a"]
    assert fit is not None
    assert fit.prices.input == pytest.approx(read, abs=1e-9)
    assert fit.prices.output == pytest.approx(write, rel=1e-6)
    assert fit.residual < 1e-6


@given(noise=st.floats(0.0, 0.5), seed=st.integers(0, 5))
def test_fitted_prices_are_never_negative(noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompt_NA, output_NA = tokens(seed, (30, 1))
    costs = prompt_NA * 1e-6 * np.exp(noise * rng.normal(size=(30, 1)))
    table = _bare_table(costs, prompt_NA, output_NA)
    prices = fit_prices(table)["a"]
    assert prices is not None
    assert prices.input >= 0
    assert prices.output >= 0


def _bare_table(costs: Floats, prompt_NA: Floats, output_NA: Floats) -> OutcomeTable:
    ids = tuple(f"q{row}" for row in range(len(costs)))
    return OutcomeTable(
        query_ids=ids,
        prompts=ids,
        tasks=(None,) * len(ids),
        groups=ids,
        experts=("a",),
        score_NA=np.ones(costs.shape),
        prompt_tokens_NA=prompt_NA,
        output_tokens_NA=output_NA,
        cost_usd_NA=costs,
        latency_s_NA=np.full(costs.shape, np.nan),
        propensity_NA=np.ones(costs.shape),
    )


def test_no_recorded_cost_is_unknown_and_not_free(make_table: MakeTable) -> None:
    table = make_table(np.ones((3, 2)), costs=[[1.0, np.nan]] * 3)
    prices = fit_prices(table)
    assert prices["b"] is None
    assert prices["a"] is not None


def test_costs_without_tokens_give_a_price_per_request(make_table: MakeTable) -> None:
    table = make_table(np.ones((2, 1)), costs=[[0.01], [0.03]])
    prices = fit_prices(table)["a"]
    assert prices is not None
    assert prices.request == pytest.approx(0.02)
    assert prices.output == 0


def test_free_experts_cost_nothing(make_table: MakeTable) -> None:
    table = make_table(np.ones((4, 1)), costs=np.zeros((4, 1)), tokens=tokens(0, (4, 1)))
    fit = fit_price_reports(table)["a"]
    assert fit is not None
    assert (fit.prices.input, fit.prices.output, fit.residual) == (0, 0, 0)


def test_a_price_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("model,usd_per_1m_input,usd_per_1m_output,source\na,0.5,1.5,x\nb,,,unknown\n")
    assert read_prices(path) == {"a": Prices(0.5, 1.5, source="prices.csv")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,usd_per_1m_input\na,1\n", "column 'usd_per_1m_output': the column is missing"),
        ("model,usd_per_1m_input,usd_per_1m_output\na,1,x\n", "row 1, column 'usd_per_1m_output'"),
        ("model,usd_per_1m_input,usd_per_1m_output\na,-1,1\n", "row 1, column 'usd_per_1m_input'"),
        ("model,usd_per_1m_input,usd_per_1m_output\na,nan,1\n", "row 1, column 'usd_per_1m_input'"),
        ("model,usd_per_1m_input,usd_per_1m_output\na,1,\n", "row 1, column 'usd_per_1m_output'"),
        ("model,usd_per_1m_input,usd_per_1m_output\n,1,1\n", "row 1, column 'model'"),
        ("model,usd_per_1m_input,usd_per_1m_output\na,1,1\na,1,1\n", "row 2, column 'model'"),
        ("model,usd_per_1m_input,usd_per_1m_output\n", "holds no prices"),
        ("", "column 'model': the column is missing"),
    ],
)
def test_a_malformed_price_list_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        read_prices(path)


def test_a_missing_price_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nothing\.csv"):
        read_prices(tmp_path / "nothing.csv")


def test_prices_fill_costs_that_were_not_recorded(make_table: MakeTable) -> None:
    prompt_NA, output_NA = np.array([[1e6, 1e6]]), np.array([[1e6, np.nan]])
    table = make_table([[1.0, 1.0]], costs=[[np.nan, np.nan]], tokens=(prompt_NA, output_NA))
    filled = fill_costs(table, {"a": Prices(1.0, 2.0), "b": Prices(1.0, 2.0)})
    assert filled.cost_usd_NA[0, 0] == pytest.approx(3.0)
    assert np.isnan(filled.cost_usd_NA[0, 1])
    recorded = make_table([[1.0, 1.0]], costs=[[9.0, 9.0]], tokens=(prompt_NA, output_NA))
    assert fill_costs(recorded, {"a": Prices(1.0, 2.0)}).cost_usd_NA[0, 0] == 9.0
