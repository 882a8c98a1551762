"""Fit a model to the shop's customers, test it on their past, and store it."""

import time
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.outlook import TEST_DAYS, FitCause, Gate, KnownCustomer
from service.core.rfm import Cuts, cuts
from service.db.outlook import models
from service.db.outlook.due import Situation, read_situation
from service.db.outlook.facts import Drawn, draw
from service.db.outlook.models import Fitted, Parameters, StoredModel
from service.db.segments.rule_settings import current
from service.insight.buying import Buying
from service.insight.model import Model, backtest, fit_model
from service.insight.spending import Spending


async def fit(connection: AsyncConnection, cause: FitCause) -> StoredModel:
    """Fit now, and return what was stored. If there is too little to learn from, that is stored.

    No transaction is open while the model is computed, which takes seconds.
    """
    started = time.perf_counter()
    async with connection.begin():
        situation = await read_situation(connection)
        last = await models.newest(connection)
        settings = (await current(connection)).settings
    gate, fitted = situation.gate, None
    if not gate.lacking:
        begun_at = _test_begins(situation.now)
        async with connection.begin():
            drawn = await draw(connection, situation.now, begun_at)
        gate = _exact(situation, drawn)
        if not gate.lacking:
            rule_days = (settings.at_risk_days, settings.inactive_days)
            fitted = _fitted(drawn, situation.now, begun_at, rule_days, _buying(last))
    async with connection.begin():
        await models.store(
            connection, situation.now, time.perf_counter() - started, cause, gate, fitted
        )
        stored = await models.newest(connection)
    assert stored is not None  # noqa: S101  it was just stored
    return stored


def _test_begins(now: datetime) -> datetime:
    """Return a UTC midnight, so that no day lies on both sides of it."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=TEST_DAYS)


def _exact(situation: Situation, drawn: Drawn) -> Gate:
    """Return the gate with the repeaters on two days, scaled up if customers were drawn."""
    share = sum(it.order_days > 1 for it in drawn.now) / max(len(drawn.now), 1)
    return situation.gate.model_copy(
        update={"customers": drawn.everybody, "repeaters": round(share * drawn.everybody)}
    )


def _fitted(
    drawn: Drawn,
    now: datetime,
    begun_at: datetime,
    rule_days: tuple[int, int],
    last: Buying | None,
) -> Fitted:
    model = fit_model(drawn.now, now, last)
    buying, spending = model.buying, model.spending
    return Fitted(
        Parameters(
            buying.r,
            buying.alpha,
            buying.a,
            buying.b,
            buying.late,
            spending.p,
            spending.q,
            spending.v,
        ),
        model.settled,
        _cuts(drawn.now),
        backtest(drawn.then, begun_at, now, rule_days, buying),
    )


def _cuts(customers: list[KnownCustomer]) -> Cuts:
    return Cuts(
        cuts([it.last_order for it in customers]),
        cuts([it.orders for it in customers]),
        cuts([it.spent for it in customers]),
    )


def _buying(stored: StoredModel | None) -> Buying | None:
    return stored and stored.fitted and model_of(stored.fitted).buying


def model_of(fitted: Fitted) -> Model:
    """Return the model that a fit found."""
    r, alpha, a, b, late, p, q, v = fitted.parameters
    return Model(Buying(r, alpha, a, b, late), Spending(p, q, v), fitted.settled)
