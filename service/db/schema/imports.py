"""Imports of the dashboard and the API, and the files that were sent for them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from service.core.import_states import ImportState
from service.db.schema.base import Moment, metadata, one_of

imports = Table(
    "imports",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("begun_at", Moment, nullable=False, server_default=func.clock_timestamp()),
    Column("begun_by", Text, nullable=False),
    Column("file_name", Text, nullable=False),
    Column("size", BigInteger, nullable=False, server_default=text("0")),
    Column("changed_at", Moment, comment="when the file was last changed, if that is known"),
    Column("options", JSONB, nullable=False, server_default=text("'{}'")),
    Column("state", Text, nullable=False),
    Column(
        "applies",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="whether the latest run writes; false: it is a dry run",
    ),
    Column("runner", Text, comment="the web process that runs it"),
    Column("seen_at", Moment, comment="when that process was last heard of"),
    Column("step", Text, comment="what it is doing"),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("total", BigInteger, nullable=False, server_default=text("0")),
    Column("finished_at", Moment),
    Column("summary", JSONB, comment="formats and counts of the latest run; nothing personal"),
    Column("report", JSONB, comment="what the latest run says; NULL after a day"),
    Column("error", Text, comment="why it failed; NULL after a day"),
    one_of("state", ImportState),
)

import_pieces = Table(
    "import_pieces",
    metadata,
    Column("import_id", BigInteger, ForeignKey("imports.id", ondelete="CASCADE"), nullable=False),
    Column("part", Text, nullable=False, comment="the file, or the list of its refused lines"),
    Column("number", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("import_id", "part", "number"),
    CheckConstraint("part IN ('file', 'refused')", name="part"),
    comment="uploaded files; deleted after the import, or after a day",
)
