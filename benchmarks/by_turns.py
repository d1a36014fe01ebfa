"""Rates of several ways to do the same, by turns, so that a noisy machine hits all of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence


def rates_by_turns(
    rate: Callable[[str], float], ways: Sequence[str], rounds: int
) -> dict[str, list[float]]:
    """`rate(way)` of each way in each round. One more round warms up and is not counted."""
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in ways:
            found = rate(way)
            if number:
                rates[way].append(found)
    return rates


def compared(rates: dict[str, list[float]]) -> dict[str, float]:
    """Medians, and the ratios of the other ways to the first one."""
    result = {way: statistics.median(values) for way, values in rates.items()}
    first, *others = rates
    return result | {f"{way} against {first}": result[way] / result[first] for way in others}


def tell_rates(rates: dict[str, list[float]], *, as_json: bool) -> None:
    """Print `compared(rates)` as a table with all rounds beside it, or as one JSON object."""
    result = compared(rates)
    if as_json:
        print(json.dumps({**result, "rounds": rates}))
        return
    for name, value in result.items():
        rounds = "  ".join(f"{rate:.1f}" for rate in rates.get(name, ()))
        print(f"{name:28} {value:8.2f}   {rounds}".rstrip())
