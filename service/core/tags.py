"""Names of tags: how they are stored, and by what they are compared."""

import unicodedata

LONGEST_TAG = 255
"""Characters, as in Shopify."""
MOST_TAGS = 250
"""The most tags of one customer, or in one request."""


def tag_name(written: str) -> str:
    """Return a tag's name as it is stored. Raises ValueError, which says what is wrong.

    Lists of tags are separated by commas, so no name has one.
    """
    name = " ".join(unicodedata.normalize("NFC", written).split())
    if not name:
        msg = "must not be blank"
        raise ValueError(msg)
    if "," in name:
        msg = "must not contain a comma; commas separate tags"
        raise ValueError(msg)
    if len(name) > LONGEST_TAG:
        msg = f"must have at most {LONGEST_TAG} characters"
        raise ValueError(msg)
    if not name.isprintable():
        msg = "must not contain control characters"
        raise ValueError(msg)
    return name


def tag_key(name: str) -> str:
    """Return what a tag is compared by: "VIP lunch" and "vip  LUNCH" are one tag."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def tag_names(written: str) -> list[str]:
    """Return the names in a list with commas, each once. Raises ValueError for a wrong one."""
    names = [tag_name(each) for each in written.split(",") if each.strip()]
    return list({tag_key(name): name for name in reversed(names)}.values())[::-1]
