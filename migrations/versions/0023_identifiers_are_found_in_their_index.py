"""Keep whom an identifier means in the index of `identifiers`, so that a batch reads only that."""

from collections.abc import Sequence

from alembic import op

from migrations.online import create_index_online

revision: str = "0023"
down_revision: str | None = "0022"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_INDEX = "pk_identifiers_new"


def upgrade() -> None:
    """Build the index beside the one that is there, and put it in its place."""
    create_index_online(
        _INDEX, "identifiers", ["identifier"], unique=True, postgresql_include=["customer_id"]
    )
    op.execute(
        "ALTER TABLE identifiers DROP CONSTRAINT pk_identifiers,"
        f" ADD CONSTRAINT pk_identifiers PRIMARY KEY USING INDEX {_INDEX}"
    )


def downgrade() -> None:
    """Build the narrower index again."""
    op.execute(
        "ALTER TABLE identifiers DROP CONSTRAINT pk_identifiers,"
        " ADD CONSTRAINT pk_identifiers PRIMARY KEY (identifier)"
    )
