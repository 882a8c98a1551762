"""Escape what a spreadsheet would run as a formula, and undo that when the file comes back.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return,
and strangers choose their own names. An apostrophe before it makes it text.
"""

import re

# Full-width forms count too, and so do characters that some spreadsheets skip before a formula. An
# apostrophe is among those, so that unescaping removes exactly what escaping added.
_FORMULA = "[ \\u0027\\u00a0\\u3000]*[=+@\\t\\r\\n\\uff1d\\uff0b\\uff0d\\uff20-]"
_CELL = f"^(?={_FORMULA})"
# A spreadsheet set to split cells at `;` or tabs sees a new cell after each of these.
_ANY_CELL = f"(?<![^;\\t\\n\\r])(?={_FORMULA})"
_ESCAPED = re.compile(f"\\A'(?={_FORMULA})")
_ANY_ESCAPED = re.compile(f"(?<![^;\\t\\n\\r])'(?={_FORMULA})")


def escaped_sql(column: str) -> str:
    """Return SQL that escapes formulas anywhere in a column.

    For names, e-mails and phones: nobody has a reason to write a separator and a formula there.
    """
    return f"regexp_replace({column}, '{_ANY_CELL}', '''', 'g')"


def escaped_notes_sql(column: str) -> str:
    """Return SQL that escapes a formula at the start of a column; null if the column is empty.

    For notes: a list with ``-`` before each line is no formula.
    """
    return f"regexp_replace(nullif({column}, ''), '{_CELL}', '''')"


def unescaped(value: str) -> str:
    """Remove the apostrophes that `escaped_sql` added."""
    return _ANY_ESCAPED.sub("", value)


def unescaped_notes(value: str) -> str:
    """Remove the apostrophe that `escaped_notes_sql` added."""
    return _ESCAPED.sub("", value)
