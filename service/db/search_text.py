"""The text that a search for customers looks through: one row beside each customer's own."""

SEARCHED_REGISTERS = ("name", "phone")
"""Registers that are part of the text; events may change them."""


def search_text(customer: str) -> str:
    """Return SQL for the text of a row of ``customers``. Its first line is the name."""
    return (
        f"lower(concat_ws(E'\\n', coalesce({customer}.name, ''), {customer}.email,"
        f" {customer}.phone, {customer}.notes))"
    )
