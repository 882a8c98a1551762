"""Customer ids as everybody outside sees them: ``CUST-`` and the number in the database."""

import re

_CUSTOMER_ID = re.compile(r"CUST-(\d{1,18})", re.ASCII)  # 18 digits always fit in a bigint


def customer_ref(number: int) -> str:
    """Return the id of a customer, such as ``CUST-1001``."""
    return f"CUST-{number}"


def customer_number(text: str) -> int | None:
    """Return 1001 for ``CUST-1001``; None if the text is not an id of ours."""
    found = _CUSTOMER_ID.fullmatch(text)
    return int(found[1]) if found else None
