"""The text that searches for customers read. A table of its own has one row per customer."""

SEARCHED_REGISTERS = ("name", "email", "phone")
"""Registers that are part of the text; events may change them."""


def search_text(customer: str) -> str:
    """Return SQL for the text of a row of ``customers``. Its first line is the name."""
    return (
        f"lower(concat_ws(E'\\n', coalesce({customer}.name, ''), {customer}.email,"
        f" {customer}.phone, {customer}.notes))"
    )
