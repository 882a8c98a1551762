"""Report every rollback of Redis as a loss: two columns of its checkpoints are not needed any more.

The columns stay for now, because workers of the release before go on writing them.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_UNUSED = "unused: only workers of an earlier release write it"


def upgrade() -> None:
    """Add a default to the column `listening`, and mark both columns as unused."""
    op.alter_column("sightings", "listening", server_default=sa.text("false"), comment=_UNUSED)
    op.alter_column("sightings", "away_since", comment=_UNUSED)


def downgrade() -> None:
    """Take the default away."""
    op.alter_column("sightings", "listening", server_default=None, comment="a consumer was reading")
    op.alter_column("sightings", "away_since", comment="Redis has not answered since")
