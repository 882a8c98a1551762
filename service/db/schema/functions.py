"""Functions that statements call."""

from sqlalchemy import Connection, MetaData, event

from service.db.figures_index import SUMMARIZE_FIGURES
from service.db.schema.base import metadata
from service.db.search_functions import FUNCTIONS


@event.listens_for(metadata, "after_create")
def create_functions(_metadata: MetaData, connection: Connection, **_options: object) -> None:
    """Create the functions once the tables are there that they read."""
    for statement in (*FUNCTIONS, SUMMARIZE_FIGURES):
        connection.exec_driver_sql(statement)
