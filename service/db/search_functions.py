r"""The SQL functions by which people are found. One prepares what is searched and what is asked.

Python folds nothing: it knows other rules than Postgres for some letters, and then nobody is found.
"""

from service.core.identifiers import INVISIBLE

_MARKS = (
    r"\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a"
    r"\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u08d3-\u08e1"
    r"\u08e3-\u08ff\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f"
)
"""Accents and other marks of Latin, Greek, Cyrillic, Hebrew and Arabic letters. Those of Indian
scripts, of Thai and of kana are left: they make another letter."""
_ASCII_BLANKS = r"\u0001-\u001e\u0020\u007f"
_BLANKS = rf"{_ASCII_BLANKS}\u0080-\u00a0\u1680\u2028\u2029"
"""Blanks and control characters. U+001F is not among them: it separates the lines."""
_LETTERS = {
    "øłđħŧƀƶǥɨðıȷŋəƒĸ": "oldhtbzgidijnefk",
    "٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹": "01234567890123456789",
    r"\u2018\u2019\u201a\u201b\u2032\u02b9\u02bb\u02bc\u0060": r"\u0027" * 9,
    r"\u201c\u201d\u201e\u201f\u00ab\u00bb": r"\u0022" * 6,
    r"\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u05be": "-" * 9,
    r"\x1f": r"\n",
}
"""Letters that Unicode does not take apart, digits, apostrophes, quotes, dashes; and the end of a
line."""
_PAIRS = {"æ": "ae", "œ": "oe", "þ": "th"}
_PLAIN = rf"""regexp_replace(
      casefold(regexp_replace(normalize(translate(written, E'\u00b4', E'\u2032'), NFKD)
        COLLATE "C", '[{_MARKS}{INVISIBLE}]+', '', 'g') COLLATE "pg_unicode_fast") COLLATE "C",
      '[{_BLANKS}]+', ' ', 'g')"""
for _letter, _pair in _PAIRS.items():
    _PLAIN = f"replace({_PLAIN}, '{_letter}', '{_pair}')"
# The collations are named, so that every database folds alike, whatever its locale. Only
# pg_unicode_fast folds in full: "ß" becomes "ss", and the two forms of the Greek sigma become one.
# Nearly all texts are ASCII, which needs a fifth of the time.
_FOLDED = rf"""
CREATE FUNCTION search_folded(written text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
  WHEN octet_length(written) = char_length(written) THEN translate(
    regexp_replace(lower(written COLLATE "C"), '[{_ASCII_BLANKS}]+', ' ', 'g'),
    E'`\x1f', E'\u0027\n')
  ELSE translate({_PLAIN},
    E'{"".join(_LETTERS)}', E'{"".join(_LETTERS.values())}')
END
"""
_PATTERN = r"""
CREATE FUNCTION search_pattern(asked text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '%' || replace(replace(replace(search_folded(asked), E'\\', E'\\\\'), '%', E'\\%'),
  '_', E'\\_') || '%'
"""
_DIGITS = r"""
CREATE FUNCTION search_digits(written text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ltrim(regexp_replace(replace(CASE WHEN octet_length(written) = char_length(written)
    THEN written ELSE search_folded(written) END, '(0)', '') COLLATE "C", '[^0-9]+', '', 'g'), '0')
"""
# A number asked for with its country code also finds one that was written without, if that is all
# there is of it: codes have one to three digits. A short number may be a part of anything.
_NUMBER_PATTERNS = r"""
CREATE FUNCTION search_number_patterns(asked text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
  SELECT array_remove(ARRAY[
    search_pattern(asked),
    CASE WHEN length(plain) >= 6 THEN '%' || plain || '%'
      WHEN whole <> '' THEN '%' || whole || '%' END,
    CASE WHEN length(plain) < 6 AND whole <> plain THEN E'%\n' || plain || '%' END,
    CASE WHEN length(plain) >= 8 THEN E'%\n' || ltrim(substr(plain, 2), '0') || E'\n%' END,
    CASE WHEN length(plain) >= 9 THEN E'%\n' || ltrim(substr(plain, 3), '0') || E'\n%' END,
    CASE WHEN length(plain) >= 10 THEN E'%\n' || ltrim(substr(plain, 4), '0') || E'\n%' END
  ], NULL)
  FROM (SELECT search_digits(asked), regexp_replace(search_folded(asked) COLLATE "C",
    '[^0-9]+', '', 'g')) digits (plain, whole)
)
"""
# An id as people write it: in either case, with or without the sign before it.
_ORDER_IDS = """
CREATE FUNCTION search_order_ids(asked text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
  SELECT array_agg(DISTINCT sign || each) FROM unnest(ARRAY['', '#']) AS s (sign),
    unnest(ARRAY[ltrim(asked, '#'), upper(ltrim(asked, '#') COLLATE "C"),
      lower(ltrim(asked, '#') COLLATE "C")]) AS u (each)
)
"""
FUNCTIONS = (_FOLDED, _PATTERN, _DIGITS, _NUMBER_PATTERNS, _ORDER_IDS)
"""Each may call those before it."""
