"""What a token costs: read from a price list, or recovered from what recorded calls cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from eval.errors import SourceError
from eval.tables.model_list import read_model_list
from experts.cards import Prices
from routers.records import Floats, OutcomeTable

_PER_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class PriceFit:
    """Prices recovered from recorded costs.

    Attributes:
        prices: Dollars per million tokens, or flat per request where no tokens were recorded.
        residual: Root mean square of what they leave unexplained over that of the costs, in [0, 1].
        cells: How many recorded costs they follow from.
    """

    prices: Prices
    residual: float
    cells: int


def fit_prices(table: OutcomeTable) -> dict[str, Prices | None]:
    """Prices of every expert, None for one without a recorded cost; see `fit_price_reports`."""
    reports = fit_price_reports(table)
    return {expert: fit.prices if fit else None for expert, fit in reports.items()}


def fit_price_reports(table: OutcomeTable) -> dict[str, PriceFit | None]:
    """Recover each expert's prices by non-negative least squares of cost on tokens.

    Minimises |cost - input · prompt_tokens - output · output_tokens|² over input, output >= 0.
    Where tokens were not recorded, the price is the mean cost per request.

    Returns:
        Expert to its fit; None where no cost was recorded, which is unknown and not free.
    """
    return {expert: _fit_one(table, column) for column, expert in enumerate(table.experts)}


def _fit_one(table: OutcomeTable, column: int) -> PriceFit | None:
    cost_N = table.cost_usd_NA[:, column]
    tokens_N2 = np.stack(
        [table.prompt_tokens_NA[:, column], table.output_tokens_NA[:, column]], axis=1
    )
    known = ~np.isnan(cost_N)
    if not known.any():
        return None
    counted = known & ~np.isnan(tokens_N2).any(axis=1)
    if not counted.any():
        mean = float(cost_N[known].mean())
        source = f"mean of {int(known.sum())} recorded costs"
        residual = _residual(cost_N[known] - mean, cost_N[known])
        return PriceFit(Prices(0.0, 0.0, request=mean, source=source), residual, int(known.sum()))
    return _fit_tokens(cost_N[counted], tokens_N2[counted])


def _fit_tokens(cost_N: Floats, tokens_N2: Floats) -> PriceFit:
    scale_2 = np.maximum(np.abs(tokens_N2).max(axis=0), 1.0)
    cost_scale = float(cost_N.max()) or 1.0
    # Half a second to load, and only this function needs it.
    from scipy.optimize import nnls

    scaled_2, _ = nnls(tokens_N2 / scale_2, cost_N / cost_scale)
    usd_per_token_2 = scaled_2 * cost_scale / scale_2
    residual = _residual(cost_N - tokens_N2 @ usd_per_token_2, cost_N)
    source = f"fitted to {len(cost_N)} recorded costs, {residual:.1%} unexplained"
    input_usd, output_usd = (float(f"{usd * _PER_MILLION:.9g}") for usd in usd_per_token_2)
    return PriceFit(Prices(input_usd, output_usd, source=source), residual, len(cost_N))


def _residual(left_N: Floats, cost_N: Floats) -> float:
    whole = float(np.sqrt(np.mean(cost_N**2)))
    return float(np.sqrt(np.mean(left_N**2))) / whole if whole > 0 else 0.0


def read_prices(path: Path | str) -> dict[str, Prices]:
    """Read a price list: CSV with `model, usd_per_1m_input, usd_per_1m_output`.

    A model whose two prices are empty is left out: its price is unknown.

    Raises:
        SourceError: The file is malformed; the message names row and column.
    """
    path = Path(path)
    prices: dict[str, Prices] = {}
    for listed in read_model_list(path, _COLUMNS, _DOLLARS):
        read, written = listed.values
        if read is not None and written is not None:
            prices[listed.model] = Prices(read, written, source=path.name)
        elif read is not None or written is not None:
            column = _COLUMNS[listed.values.index(None)]
            message = f"must be {_DOLLARS} >= 0, got ''"
            raise SourceError(path, message, row=listed.row, column=column)
    if not prices:
        raise SourceError(path, "the file holds no prices")
    return prices


_COLUMNS = ("usd_per_1m_input", "usd_per_1m_output")
_DOLLARS = "a number of dollars"


def fill_costs(table: OutcomeTable, prices: Mapping[str, Prices | None]) -> OutcomeTable:
    """`table` with costs that were not recorded worked out from tokens and prices, where known."""
    cost_NA = table.cost_usd_NA.copy()
    for column, expert in enumerate(table.experts):
        price = prices.get(expert)
        if price is None:
            continue
        tokens_N = table.prompt_tokens_NA[:, column], table.output_tokens_NA[:, column]
        worked_out_N = (
            tokens_N[0] * price.input + tokens_N[1] * price.output
        ) / _PER_MILLION + price.request
        missing = np.isnan(cost_NA[:, column])
        cost_NA[missing, column] = worked_out_N[missing]
    return replace(table, cost_usd_NA=cost_NA)
