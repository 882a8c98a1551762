"""Numbers, money and dates in the reader's language and the store's time zone.

The language comes with each request. The time zone is the store's for every reader, so that two
people who look at one page see the same days. A page that shows dates reads it from the settings,
with `store_clock`, in the snapshot from which it reads everything else.
"""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_timedelta
from babel.numbers import format_compact_currency, format_currency, format_decimal, format_percent
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request

from service.core.day_or_moment import DayOrMoment
from service.core.store_days import day_of
from service.db.store_clock import StoreClock, read_store_clock
from service.http.state import state_of

_CLOCK = "crm.store_clock"
"""Where a request keeps the clock that it has read."""
_MOST_LANGUAGES = 10
"""How many languages of a header are tried at most."""


@dataclass(frozen=True)
class Formats:
    """The conventions of one reader, as functions for templates and for `segment_explanation`."""

    locale: Locale
    currency: str
    clock: StoreClock | None
    """None on a page that shows no dates."""

    @property
    def zone(self) -> ZoneInfo:
        """The store's time zone."""
        if self.clock is None:
            msg = "this page shows dates, so it has to call store_clock first"
            raise LookupError(msg)
        return self.clock.zone

    def number(self, value: Decimal | float) -> str:
        """Write a number with its digits grouped."""
        return str(format_decimal(value, locale=self.locale))

    def money(self, amount: Decimal | float | None, currency: str | None = None) -> str:
        """Write an amount with its cents: of the store's currency, or of another. "–" for None."""
        if amount is None:
            return "–"
        return str(format_currency(amount, currency or self.currency, locale=self.locale))

    def round_money(self, amount: Decimal) -> str:
        """Write an amount of the store's currency, without cents when it has none."""
        if amount != int(amount):
            return self.money(amount)
        pattern = self.locale.currency_formats["standard"].pattern.replace("0.00", "0")
        return str(
            format_currency(amount, self.currency, pattern, self.locale, currency_digits=False)
        )

    def whole_money(self, amount: Decimal | float) -> str:
        """Write an amount of the store's currency, rounded to a whole one."""
        return self.round_money(Decimal(round(amount)))

    def short_money(self, amount: Decimal | float) -> str:
        """Write a rounded amount, short enough for an axis."""
        return str(
            format_compact_currency(amount, self.currency, locale=self.locale, fraction_digits=1)
        )

    def percent(self, value: Decimal | float) -> str:
        """Write a percentage (12.5 for 12.5 %) with at most one decimal."""
        pattern = (
            self.locale.percent_formats[None]
            .pattern.replace("0%", "0.#%")
            .replace("0\xa0%", "0.#\xa0%")
        )
        return str(format_percent(Decimal(value) / 100, pattern, locale=self.locale))

    def points(self, value: Decimal | float) -> str:
        """Write a difference between two percentages with at most one decimal."""
        return str(format_decimal(value, "#,##0.#", locale=self.locale))

    def day(self, moment: datetime | date | None) -> str:
        """Write a date. "–" for None."""
        if moment is None:
            return "–"
        if isinstance(moment, datetime):
            moment = day_of(moment, self.zone)
        return str(format_date(moment, "medium", locale=self.locale))

    def moment(self, moment: datetime | None) -> str:
        """Write date and time to the second. "–" for None."""
        if moment is None:
            return "–"
        return str(format_datetime(moment, "medium", tzinfo=self.zone, locale=self.locale))

    def written(self, value: DayOrMoment) -> str:
        """Write what somebody gave as a day or as a moment."""
        return self.day(value.day) if value.day else self.moment(value.moment)

    def ago(self, moment: datetime, now: datetime) -> str:
        """Write roughly how long ago a moment was."""
        return str(format_timedelta(moment - now, add_direction=True, locale=self.locale))

    def month(self, month: str) -> str:
        """Write a month given as ``2026-11``."""
        year, number = month.split("-")
        return str(format_date(date(int(year), int(number), 1), "LLL yyyy", locale=self.locale))


async def store_clock(request: Request, connection: AsyncConnection) -> StoreClock:
    """Read the store's clock for this request. Its page then writes dates in that time zone."""
    clock: StoreClock = await read_store_clock(connection)
    request.scope[_CLOCK] = clock
    return clock


def formats_of(request: Request) -> Formats:
    """Return the reader's conventions; US English if the request names no known language."""
    return Formats(
        _locale(request.headers.get("accept-language", "")[:200]),
        state_of(request).config.store_currency,
        request.scope.get(_CLOCK),
    )


@lru_cache(1000)
def _locale(accepted: str) -> Locale:
    for part in accepted.split(",")[:_MOST_LANGUAGES]:
        name = part.partition(";")[0].strip()
        try:
            return Locale.parse(name, sep="-")
        except (UnknownLocaleError, ValueError, TypeError):
            continue
    return Locale("en", "US")
