"""Escaped formulas are restored when a file is imported."""

from hypothesis import example, given
from hypothesis import strategies as st

from service.transfer.formulas import unescaped


@given(st.text(alphabet="'=;\t\n -aü＝"))
@example("';'=")
def test_unescaping_removes_at_most_one_apostrophe_per_cell(text: str) -> None:
    taken = unescaped(text)
    assert len(text) - len(taken) <= text.count("'")
