"""Add `identifiers`: whom an e-mail, an external id or a phone means. An e-mail becomes optional.

The next revision fills the table. Triggers keep it up to date while processes of the release before
run beside this one.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

from migrations.online import add_checks_online

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_KEY = sa.String(collation="C")
_MOMENT = sa.DateTime(timezone=True)
_CAUSES = "'order', 'time', 'manual', 'rules', 'rebuild'"

_TRIGGERS = (
    """
CREATE FUNCTION take_over_email() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner bigint;
BEGIN
  EXECUTE format(
    'INSERT INTO %I.identifiers AS i (identifier, customer_id) VALUES ($1, $2)'
    ' ON CONFLICT (identifier) DO UPDATE SET since = i.since RETURNING customer_id', TG_TABLE_SCHEMA
  ) INTO owner USING 'email:' || NEW.email_key, NEW.id;
  IF owner <> NEW.id THEN
    EXECUTE format(
      'INSERT INTO %I.pending_merges (low, high) VALUES ($1, $2) ON CONFLICT DO NOTHING',
      TG_TABLE_SCHEMA
    ) USING least(owner, NEW.id), greatest(owner, NEW.id);
  END IF;
  RETURN NULL;
END $$
""",
    """
CREATE TRIGGER take_over_email AFTER INSERT OR UPDATE OF email_key ON customers FOR EACH ROW
WHEN (new.email_key IS NOT NULL
      AND current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION take_over_email()
""",
    """
CREATE FUNCTION forget_identifier() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.identifier = NULL;
  NEW.other_identifier = NULL;
  RETURN NEW;
END $$
""",
    """
CREATE TRIGGER forget_identifier BEFORE UPDATE OF customer_id ON orders FOR EACH ROW
WHEN (old.customer_id IS DISTINCT FROM new.customer_id
      AND current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION forget_identifier()
""",
    """
CREATE FUNCTION forget_customer() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('DELETE FROM %I.identifiers WHERE customer_id = $1', TG_TABLE_SCHEMA)
    USING OLD.id;
  EXECUTE format('DELETE FROM %I.pending_merges WHERE $1 IN (low, high)', TG_TABLE_SCHEMA)
    USING OLD.id;
  EXECUTE format('DELETE FROM %I.separations WHERE $1 IN (low, high)', TG_TABLE_SCHEMA)
    USING OLD.id;
  RETURN NULL;
END $$
""",
    """
CREATE TRIGGER forget_customer AFTER DELETE ON customers FOR EACH ROW
WHEN (current_setting('crm.identifiers', true) IS DISTINCT FROM 'written')
EXECUTE FUNCTION forget_customer()
""",
)


def upgrade() -> None:
    """Widen the checks, add the tables and columns, and start the triggers."""
    add_checks_online(
        {
            ("customers", "ck_customers_email_key"): "(email IS NULL) = (email_key IS NULL)",
            ("segment_changes", "ck_segment_changes_cause"): f"cause IN ({_CAUSES}, 'identity')",
        }
    )
    op.create_table(
        "identifiers",
        sa.Column("identifier", _KEY, primary_key=True, comment="such as email:jane@example.com"),
        sa.Column("customer_id", sa.BigInteger, index=True, comment="NULL: it is not a person"),
        sa.Column("given_by", sa.Text, comment="who gave it to them; NULL: an event did"),
        sa.Column("since", _MOMENT, nullable=False, server_default=sa.func.now()),
        comment="whom e-mails, external ids, phones and ids of merged customers mean",
    )
    op.create_table(
        "pending_merges",
        sa.Column("low", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("high", sa.BigInteger, primary_key=True, autoincrement=False, index=True),
        sa.Column("since", _MOMENT, nullable=False, server_default=sa.func.now()),
        sa.Column(
            "protected",
            sa.Boolean,
            nullable=False,
            server_default=text("false"),
            comment="one of them has too many identifiers: a person decides",
        ),
        sa.CheckConstraint("low < high", name="pair"),
        comment="customers whom an event has put together",
    )
    op.create_table(
        "separations",
        sa.Column("low", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("high", sa.BigInteger, primary_key=True, autoincrement=False, index=True),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("decided_at", _MOMENT, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.CheckConstraint("low < high", name="pair"),
        comment="customers who are two people, whatever events say",
    )
    op.add_column("customers", sa.Column("email_at", _MOMENT))
    op.add_column("customers", sa.Column("email_event", _KEY))
    op.alter_column("customers", "email", nullable=True)
    op.alter_column(
        "customers", "email_key", nullable=True, comment="the normal form of their own e-mail"
    )
    op.add_column("orders", sa.Column("identifier", _KEY))
    op.add_column("orders", sa.Column("other_identifier", _KEY))
    op.add_column(
        "installation",
        sa.Column(
            "reassignments",
            sa.BigInteger,
            nullable=False,
            server_default=text("0"),
            comment="identifiers that staff gave away; batches that looked meanwhile run again",
        ),
    )
    op.alter_column("erased", "email_hash", comment="SHA-256 of salt and identifier")
    for statement in _TRIGGERS:
        op.execute(statement)


def downgrade() -> None:
    """Drop what was added. Customers without an e-mail get one that leads nowhere."""
    triggers = {
        "take_over_email": "customers",
        "forget_identifier": "orders",
        "forget_customer": "customers",
    }
    for trigger, table in triggers.items():
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
        op.execute(f"DROP FUNCTION {trigger}")
    op.alter_column("erased", "email_hash", comment="SHA-256 of salt and e-mail")
    op.drop_column("installation", "reassignments")
    op.drop_column("orders", "other_identifier")
    op.drop_column("orders", "identifier")
    op.execute(
        "UPDATE customers SET email = 'cust-' || id || '@invalid',"
        " email_key = 'cust-' || id || '@invalid' WHERE email IS NULL"
    )
    op.alter_column(
        "customers",
        "email_key",
        nullable=False,
        comment="lower-cased: e-mails compare without case",
    )
    op.alter_column("customers", "email", nullable=False)
    op.drop_column("customers", "email_event")
    op.drop_column("customers", "email_at")
    op.drop_constraint(op.f("ck_customers_email_key"), "customers")
    for table in ("separations", "pending_merges", "identifiers"):
        op.drop_table(table)
    op.execute("UPDATE segment_changes SET cause = 'rebuild' WHERE cause = 'identity'")
    op.drop_constraint(op.f("ck_segment_changes_cause"), "segment_changes")
    op.create_check_constraint(
        op.f("ck_segment_changes_cause"), "segment_changes", f"cause IN ({_CAUSES})"
    )
