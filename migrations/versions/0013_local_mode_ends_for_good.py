"""Remember that a credential was ever made, and the devices from which users signed in."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Rows can be deleted by hand. The number of the last user and the audit outlive them. The audit is
# long, so it is read only if nothing else tells.
_EVER = sa.text("""
SELECT CASE
  WHEN EXISTS (SELECT FROM users) OR EXISTS (SELECT FROM api_keys) THEN true
  WHEN pg_sequence_last_value(pg_get_serial_sequence('users', 'id')::regclass) IS NOT NULL THEN true
  ELSE EXISTS (SELECT FROM audit WHERE action IN ('key.created', 'user.added'))
END
""")
_TABLES = ("users", "api_keys")


def upgrade() -> None:
    """Create the column, its triggers and the table of devices."""
    ever = op.get_bind().scalar(_EVER)  # before any lock is taken
    op.add_column(
        "installation",
        sa.Column(
            "sign_in_since",
            sa.DateTime(timezone=True),
            comment="set by the first key or user, and never unset",
        ),
    )
    op.execute("""
        CREATE FUNCTION end_local_mode() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
          EXECUTE format(
            'UPDATE %I.installation SET sign_in_since = now() WHERE sign_in_since IS NULL',
            TG_TABLE_SCHEMA
          );
          RETURN NULL;
        END $$
    """)
    for table in _TABLES:
        op.execute(
            f"CREATE TRIGGER end_local_mode AFTER INSERT ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION end_local_mode()"
        )
    op.create_table(
        "devices",
        sa.Column(
            "token_hash",
            sa.LargeBinary(),
            primary_key=True,
            comment="SHA-256 of 256 random bits",
        ),
        sa.Column(
            "user_id",
            sa.BigInteger(),
            sa.ForeignKey("users.id", name=op.f("fk_devices_user_id"), ondelete="CASCADE"),
            primary_key=True,
            comment="a browser may have several users",
        ),
        sa.Column(
            "signed_in_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
    )
    op.create_index(op.f("ix_devices_user_id"), "devices", ["user_id"])
    # A key or user that was made since the first statement has waited for no lock, so ask again.
    op.execute(
        "UPDATE installation SET sign_in_since = now()"
        f" WHERE {bool(ever)} OR EXISTS (SELECT FROM users) OR EXISTS (SELECT FROM api_keys)"
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("devices")
    for table in _TABLES:
        op.execute(f"DROP TRIGGER end_local_mode ON {table}")
    op.execute("DROP FUNCTION end_local_mode()")
    op.drop_column("installation", "sign_in_since")
