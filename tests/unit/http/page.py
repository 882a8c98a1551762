"""A page's structure."""

from html.parser import HTMLParser

_VOID = {"meta", "br", "hr", "link", "img"}


class Page(HTMLParser):
    """A parsed page: its links, ids and tags. Every tag that it opens must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in _VOID:
            self.open.append(tag)
        given = {name: value or "" for name, value in attrs}
        self.outside += [given[name] for name in ("src", "style", "onclick") if name in given]
        if "href" in given:
            self.links.append(given["href"])
        if "id" in given:
            self.ids.append(given["id"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
