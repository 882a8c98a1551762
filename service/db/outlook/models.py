"""The models that were fitted, as they are stored. The newest one is in force."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.outlook import FitCause, Gate, HoldOut, Lacking, ModelState, Verdict, verdict_of
from service.core.rfm import Cuts

_MOST_KEPT = 400
PARAMETERS = ("r", "alpha", "a", "b", "late", "p", "q", "v")
_CUTS = ("recency_cuts", "frequency_cuts", "monetary_cuts")
_NEWEST = text("SELECT * FROM insight_models ORDER BY id DESC LIMIT 1")
_LAST = text("SELECT * FROM insight_models ORDER BY id DESC LIMIT :most")
_INSERT = text(f"""
INSERT INTO insight_models (fitted_at, seconds, cause, state, customers, repeaters, lacking,
  {", ".join(PARAMETERS)}, settled, {", ".join(_CUTS)}, holdout)
VALUES (:fitted_at, :seconds, :cause, :state, :customers, :repeaters, CAST(:lacking AS text[]),
  {", ".join(f":{name}" for name in PARAMETERS)}, :settled, CAST(:recency_cuts AS timestamptz[]),
  CAST(:frequency_cuts AS integer[]), CAST(:monetary_cuts AS numeric[]), CAST(:holdout AS jsonb))
RETURNING id
""")
_PRUNE = text("""
DELETE FROM insight_models
WHERE id < (SELECT id FROM insight_models ORDER BY id DESC OFFSET :kept LIMIT 1)
""")
_GRANTED = text("UPDATE insight_refresh SET fit_wanted_at = NULL WHERE fit_wanted_at IS NOT NULL")


class Parameters(NamedTuple):
    """The parameters of a model; see `service.insight`."""

    r: float
    alpha: float
    a: float
    b: float
    late: int
    p: float
    q: float
    v: float


class Fitted(NamedTuple):
    """What a fit found."""

    parameters: Parameters
    settled: bool
    cuts: Cuts
    hold_out: HoldOut | None


class StoredModel(NamedTuple):
    """A fit, as it is stored."""

    id: int
    fitted_at: datetime
    seconds: float
    cause: FitCause
    customers: int
    repeaters: int
    lacking: list[Lacking]
    fitted: Fitted | None
    """None: there was too little to learn from."""

    @property
    def state(self) -> ModelState:
        """Return whether the fit made a model."""
        return ModelState.FITTED if self.fitted else ModelState.TOO_LITTLE

    @property
    def verdict(self) -> Verdict:
        """Return how far the figures can be trusted."""
        return verdict_of(self.fitted and self.fitted.hold_out)


async def newest(connection: AsyncConnection) -> StoredModel | None:
    """Return the model in force. None: nothing was fitted yet."""
    row = (await connection.execute(_NEWEST)).one_or_none()
    return _model(row) if row else None


async def last(connection: AsyncConnection, most: int) -> Sequence[StoredModel]:
    """Return the last fits, the newest first."""
    return [_model(row) for row in await connection.execute(_LAST, {"most": most})]


async def store(
    connection: AsyncConnection,
    fitted_at: datetime,
    seconds: float,
    cause: FitCause,
    gate: Gate,
    fitted: Fitted | None,
) -> int:
    """Store a fit, which is in force from now on; return its id. The caller commits.

    A wish for a fit is fulfilled by it. Fits older than the newest 400 are deleted.
    """
    values: dict[str, Any] = {
        "fitted_at": fitted_at,
        "seconds": seconds,
        "cause": cause.value,
        "state": (ModelState.FITTED if fitted else ModelState.TOO_LITTLE).value,
        "customers": gate.customers,
        "repeaters": gate.repeaters,
        "lacking": [it.value for it in gate.lacking],
        **dict.fromkeys((*PARAMETERS, "settled", *_CUTS, "holdout")),
    }
    if fitted:
        values |= fitted.parameters._asdict() | {"settled": fitted.settled}
        values |= {name: list(cuts) for name, cuts in zip(_CUTS, fitted.cuts, strict=True)}
        values["holdout"] = fitted.hold_out and fitted.hold_out.model_dump_json()
    number = int((await connection.execute(_INSERT, values)).scalar_one())
    await connection.execute(_PRUNE, {"kept": _MOST_KEPT - 1})
    await connection.execute(_GRANTED)
    return number


def _model(row: Row[Any]) -> StoredModel:
    fitted = None
    if row.state == ModelState.FITTED:
        fitted = Fitted(
            Parameters(*(getattr(row, name) for name in PARAMETERS)),
            row.settled,
            Cuts(*(tuple(getattr(row, name)) for name in _CUTS)),
            None if row.holdout is None else HoldOut.model_validate(row.holdout),
        )
    return StoredModel(
        row.id,
        row.fitted_at,
        row.seconds,
        FitCause(row.cause),
        row.customers,
        row.repeaters,
        [Lacking(it) for it in row.lacking],
        fitted,
    )
