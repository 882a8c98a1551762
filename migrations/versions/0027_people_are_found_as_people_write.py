r"""Fold what searches read, so that people are found however their names and numbers are written.

Workers write the texts anew that are there, a few hundred at a time. Those that processes of the
release before still write follow.
"""

from collections.abc import Sequence

from alembic import op
from sqlalchemy import text

from migrations.online import create_index_online

revision: str = "0027"
down_revision: str | None = "0026"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_WAITING = r"right(searched, 1) <> E'\x1e'"

_ASCII_BLANKS = r"\u0001-\u001e\u0020\u007f"
_BLANKS = r"\u0001-\u001e\u0020\u007f\u0080-\u00a0\u1680\u2028\u2029"
_MARKS = (
    r"\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a"
    r"\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u08d3-\u08e1"
    r"\u08e3-\u08ff\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f"
)
_INVISIBLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_LETTERS = (
    r"øłđħŧƀƶǥɨðıȷŋəƒĸ٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹\u2018\u2019\u201a\u201b\u2032\u02b9\u02bb\u02bc"
    r"\u0060\u201c\u201d\u201e\u201f\u00ab\u00bb\u2010\u2011\u2012\u2013\u2014\u2015\u2043"
    r"\u2212\u05be\x1f"
)
_PLAIN = (
    r"oldhtbzgidijnefk01234567890123456789\u0027\u0027\u0027\u0027\u0027\u0027\u0027\u0027"
    r"\u0027\u0022\u0022\u0022\u0022\u0022\u0022---------\n"
)
_FOLDED = rf"""
CREATE FUNCTION search_folded(written text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
  WHEN octet_length(written) = char_length(written) THEN translate(
    regexp_replace(lower(written COLLATE "C"), '[{_ASCII_BLANKS}]+', ' ', 'g'),
    E'`\x1f', E'\u0027\n')
  ELSE translate(replace(replace(replace(regexp_replace(
      casefold(regexp_replace(normalize(translate(written, E'\u00b4', E'\u2032'), NFKD)
        COLLATE "C", '[{_MARKS}{_INVISIBLE}]+', '', 'g') COLLATE "pg_unicode_fast") COLLATE "C",
      '[{_BLANKS}]+', ' ', 'g'),
      'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'),
    E'{_LETTERS}', E'{_PLAIN}')
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
_ORDER_IDS = r"""
CREATE FUNCTION search_order_ids(asked text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
  SELECT array_agg(DISTINCT sign || each) FROM unnest(ARRAY['', '#']) AS s (sign),
    unnest(ARRAY[ltrim(asked, '#'), upper(ltrim(asked, '#') COLLATE "C"),
      lower(ltrim(asked, '#') COLLATE "C")]) AS u (each)
)
"""
_SEARCH_AGAIN = r"""
CREATE FUNCTION search_again() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format(
    'UPDATE %I.customer_search SET searched = rtrim(searched, $2) WHERE customer_id = $1',
    TG_TABLE_SCHEMA
  ) USING CAST(to_jsonb(coalesce(NEW, OLD)) ->> TG_ARGV[0] AS bigint), E'\x1e';
  RETURN NULL;
END $$
"""
_ON_IDENTIFIER = """
CREATE TRIGGER search_again AFTER INSERT OR DELETE OR UPDATE ON identifiers FOR EACH ROW
WHEN (current_setting('crm.search', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION search_again('customer_id')
"""
_ON_ADDRESS = """
CREATE TRIGGER search_again AFTER UPDATE OF address ON customers FOR EACH ROW
WHEN (current_setting('crm.search', true) IS DISTINCT FROM 'written'
      AND old.address IS DISTINCT FROM new.address)
EXECUTE FUNCTION search_again('id')
"""
_FUNCTIONS = (_FOLDED, _PATTERN, _DIGITS, _NUMBER_PATTERNS, _ORDER_IDS)
_TRIGGERS = (_SEARCH_AGAIN, _ON_IDENTIFIER, _ON_ADDRESS)


def upgrade() -> None:
    """Build the index of the texts that wait, and create the functions and triggers."""
    create_index_online(
        "ix_customer_search_waiting",
        "customer_search",
        ["customer_id"],
        postgresql_where=text(_WAITING),
    )
    op.alter_column(
        "customer_search",
        "searched",
        comment="what is found, folded; the name first",
        existing_comment="name, e-mail, phone, notes; lower-cased",
    )
    for statement in (*_FUNCTIONS, *_TRIGGERS):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """Drop what was created, and write the texts as the release before does."""
    for table in ("customers", "identifiers"):
        op.execute(f"DROP TRIGGER search_again ON {table}")
    op.drop_index("ix_customer_search_waiting", "customer_search")
    for name in (
        "search_again()",
        "search_order_ids(text)",
        "search_number_patterns(text)",
        "search_digits(text)",
        "search_pattern(text)",
        "search_folded(text)",
    ):
        op.execute(f"DROP FUNCTION {name}")
    op.alter_column(
        "customer_search", "searched", comment="name, e-mail, phone, notes; lower-cased"
    )
    op.execute(
        "UPDATE customer_search s"
        " SET searched = lower(concat_ws(E'\\n', coalesce(name, ''), email, phone, notes))"
        " FROM customers c WHERE c.id = s.customer_id"
    )
