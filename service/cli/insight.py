"""``crm insight``: show the model and its test, fit it now, refresh all outlooks now."""

import asyncio
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.cli.database import connected, in_database
from service.cli.output import (
    AsJson,
    camel,
    fail,
    moment,
    note,
    print_facts,
    print_json,
    print_table,
    progress,
    say,
)
from service.config import Config
from service.core.numbers import number_of
from service.core.outlook import FitCause, HoldOut
from service.db.outlook import models, reading
from service.db.outlook.due import Situation, read_situation
from service.db.outlook.models import StoredModel
from service.db.outlook.reading import Refresh
from service.local.state import with_local_stack

app = typer.Typer(
    no_args_is_help=True,
    help="Predictions: the model, how far it can be trusted, and its refresh.",
)

_Found = tuple[StoredModel | None, Situation, Refresh]


@app.command()
def show(*, as_json: Annotated[bool, AsJson] = False) -> None:
    """Show the model in force, and how far it was right about the last 90 days."""
    model, situation, refresh = in_database(_read)
    if as_json:
        print_json(_document(model, situation, refresh))
        return
    print_facts(list(_facts(model, situation, refresh)))
    test = model.fitted.hold_out if model and model.fitted else None
    if test:
        print_table(
            ("Chance of an order", "Customers", "Expected", "Ordered", "Chance explains"),
            [
                (
                    f"{band.lowest:.0%} to {band.highest:.0%}",
                    f"{band.customers:,}",
                    f"{band.said:.1%}",
                    f"{band.came:.1%}",
                    " to ".join(f"{share:.1%}" for share in band.range),
                )
                for band in test.bands
            ],
        )


@app.command()
def fit() -> None:
    """Fit a model now, test it on the last 90 days, and put it in force.

    A worker does this once a day. Afterwards it refreshes all outlooks.
    """
    _require_the_extra()
    config = with_local_stack(Config.load())
    stored = asyncio.run(_fit(config))
    if stored.lacking:
        fail(f"there is too little to learn from: {', '.join(stored.lacking)}.")
    say(
        f"Fitted to {number_of(stored.customers, 'customer', 'customers')} in "
        f"{stored.seconds:.1f} s: {stored.verdict}. `crm insight show` says more."
    )


@app.command()
def refresh() -> None:
    """Compute what is expected of all customers now, without pauses.

    A worker does this all the time, at one percent of a core.
    """
    _require_the_extra()
    config = with_local_stack(Config.load())
    examined, written, removed = asyncio.run(_refresh(config))
    customers = number_of(examined, "customer", "customers")
    say(f"{customers} with orders: {written:,} outlooks written, {removed:,} removed.")


def _require_the_extra() -> None:
    if not find_spec("scipy"):
        fail("predictions need numpy and scipy: install recovery-essentials-crm[insight].")


async def _read(connection: AsyncConnection) -> _Found:
    return (
        await models.newest(connection),
        await read_situation(connection),
        await reading.last_refresh(connection),
    )


async def _fit(config: Config) -> StoredModel:
    from service.predictions import fit_now  # noqa: PLC0415

    async with connected(config, "crm insight") as engine, engine.connect() as connection:
        return await fit_now(connection, FitCause.HAND)


async def _refresh(config: Config) -> tuple[int, int, int]:
    async with connected(config, "crm insight") as engine:
        return await _circle(engine)


async def _circle(engine: AsyncEngine) -> tuple[int, int, int]:
    from service.predictions import circle  # noqa: PLC0415

    examined = written = removed = 0
    async with engine.connect() as connection:
        async with connection.begin():
            situation = await read_situation(connection)
        if not situation.refresh_due and situation.state is None:
            note("crm: nothing was fitted yet. `crm insight fit` does it.")
        with progress("Customers", situation.gate.customers) as update:
            async for step in circle(connection, _no_pause, fits=False):
                examined += step.examined
                written += step.written
                removed += step.removed
                update(examined)
    return examined, written, removed


async def _no_pause(_: float) -> None:
    pass


def _facts(
    model: StoredModel | None, situation: Situation, refresh: Refresh
) -> Iterator[tuple[str, object]]:
    gate = situation.gate
    yield "Customers with orders", f"{gate.customers:,} (500 are needed)"
    yield "With two orders", f"{gate.repeaters:,} (100 on two days are needed)"
    yield "Days since the first order", f"{gate.history_days:,.0f} (180 are needed)"
    yield "Days since the last order", f"{gate.silent_days:,.0f} (30 at most)"
    if model is None:
        yield "Model", "nothing was fitted yet"
        return
    yield "Fitted", f"{moment(model.fitted_at)}, {model.cause}, in {model.seconds:.1f} s"
    if model.fitted is None:
        yield "Model", f"too little to learn from: {', '.join(model.lacking)}"
        return
    parameters = model.fitted.parameters
    kind = "MBG/NBD" if parameters.late else "BG/NBD"
    yield "When they order", f"{kind} " + _named(parameters._asdict(), "r", "alpha", "a", "b")
    yield "What they spend", "Gamma-Gamma " + _named(parameters._asdict(), "p", "q", "v")
    if not model.fitted.settled:
        yield (
            "",
            "no clear maximum, or a parameter at a bound: these customers are not like the model's",
        )
    yield "Outlooks refreshed", moment(refresh.completed_at)
    for each in refresh.forecasts:
        yield (
            f"Expected in {each.days} days",
            f"{each.orders:,.0f} orders, {each.revenue:,.0f} in the store's currency",
        )
    yield "Verdict", model.verdict
    if model.fitted.hold_out:
        yield from _test_facts(model.fitted.hold_out)


def _test_facts(test: HoldOut) -> Iterator[tuple[str, object]]:
    for name, compared in (
        ("Customers who ordered", test.buyers),
        ("Orders", test.orders),
        ("Revenue", test.revenue),
    ):
        yield (
            f"{name}, last {test.days:.0f} days",
            f"{compared.said:,.0f} expected, {compared.came:,.0f} came ({compared.error:+.1%})",
        )
    rules, recency = test.ranked_right_by_rules, test.ranked_right_by_recency
    others = f"rules by days {rules:.1%}, last order {recency:.1%}"
    yield "Ranked right", f"{test.ranked_right:.1%} ({others})"
    yield "Mean error of a band", f"{test.band_error:.1%}"


def _named(values: dict[str, float], *names: str) -> str:
    return ", ".join(f"{name} {values[name]:.4g}" for name in names)


def _document(model: StoredModel | None, situation: Situation, refresh: Refresh) -> dict[str, Any]:
    fitted = model.fitted if model else None
    return {
        "enough": camel(situation.gate.model_dump()),
        "lacking": model.lacking if model else situation.gate.lacking,
        "model": model
        and {
            "id": model.id,
            "fittedAt": model.fitted_at,
            "seconds": model.seconds,
            "cause": model.cause,
            "customers": model.customers,
            "repeaters": model.repeaters,
            "verdict": model.verdict if fitted else None,
            "settled": fitted and fitted.settled,
            "parameters": fitted and fitted.parameters._asdict(),
            "test": fitted and fitted.hold_out and fitted.hold_out.model_dump(mode="json"),
        },
        "refreshedAt": refresh.completed_at,
        "forecasts": [each._asdict() for each in refresh.forecasts],
    }
