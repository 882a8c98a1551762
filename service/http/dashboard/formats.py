"""Numbers, money and dates in the reader's language and time zone.

The language comes with each request. The time zone does not, so a script puts it into a cookie.
Until then, and without scripts, times are in UTC and say so.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_timedelta
from babel.numbers import format_compact_currency, format_currency, format_decimal, format_percent
from starlette.requests import Request

ZONE_COOKIE = "crm_zone"
_MOST_LANGUAGES = 10
"""How many languages of a header are tried at most."""


@dataclass(frozen=True)
class Formats:
    """The conventions of one reader, as functions for templates and for `segment_explanation`."""

    locale: Locale
    zone: tzinfo
    currency: str

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

    def day(self, moment: datetime | date | None) -> str:
        """Write a date. "–" for None."""
        if moment is None:
            return "–"
        if isinstance(moment, datetime):
            moment = moment.astimezone(self.zone).date()
        return str(format_date(moment, "medium", locale=self.locale))

    def moment(self, moment: datetime | None) -> str:
        """Write date and time to the second. Only UTC is named as the zone. "–" for None."""
        if moment is None:
            return "–"
        local = moment.astimezone(self.zone)
        written = format_datetime(local, "medium", tzinfo=self.zone, locale=self.locale)
        return f"{written} UTC" if self.zone is UTC else str(written)

    def ago(self, moment: datetime, now: datetime) -> str:
        """Write roughly how long ago a moment was."""
        return str(format_timedelta(moment - now, add_direction=True, locale=self.locale))

    def month(self, month: str) -> str:
        """Write a month given as ``2026-11``."""
        year, number = month.split("-")
        return str(format_date(date(int(year), int(number), 1), "LLL yyyy", locale=self.locale))

    def today(self, now: datetime) -> date:
        """Return today's date in the reader's time zone."""
        return now.astimezone(self.zone).date()


def formats_of(request: Request, currency: str) -> Formats:
    """Return the reader's conventions; US English and UTC if the request names no known ones."""
    return Formats(
        _locale(request.headers.get("accept-language", "")[:200]),
        _zone(request.cookies.get(ZONE_COOKIE, "")),
        currency,
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


@lru_cache(1000)
def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
