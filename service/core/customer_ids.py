"""Customer ids as clients see them: ``CUST-`` and the number in the database."""

import re

_CUSTOMER_ID = re.compile(r"CUST-(\d{1,18})", re.ASCII)  # 18 digits always fit in a bigint


def customer_ref(number: int) -> str:
    """Return the id of a customer, such as ``CUST-1001``."""
    return f"CUST-{number}"


def customer_number(text: str) -> int | None:
    """Return 1001 for ``CUST-1001``; None if the text is not an id of ours."""
    match = _CUSTOMER_ID.fullmatch(text)
    return int(match[1]) if match else None
