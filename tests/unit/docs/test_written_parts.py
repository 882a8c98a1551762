"""Benchmarks write their figures into the pages that show them."""

from pathlib import Path

import pytest

from tests.bench import pages


@pytest.mark.parametrize("name", ["speed", "promises"])
def test_the_page_has_the_parts_that_the_bench_writes(tmp_path: Path, name: str) -> None:
    copy = tmp_path / "performance.md"
    copy.write_text(pages.PAGE.read_text())
    for figures in ("| 1 |", "| 22 |\n"):
        pages.write(name, figures, copy)
        begin = f"<!-- {name}: written by the command above -->\n"
        before, _, rest = copy.read_text().partition(begin)
        part, _, after = rest.partition(f"\n<!-- end of {name} -->")
        assert part == figures.strip()
        assert pages.PAGE.read_text().startswith(before)
        assert pages.PAGE.read_text().endswith(after)


def test_a_part_that_the_page_does_not_have_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "performance.md"
    copy.write_text("# Performance\n")
    with pytest.raises(ValueError, match=r"performance\.md has no part reads"):
        pages.write("reads", "| 1 |", copy)
