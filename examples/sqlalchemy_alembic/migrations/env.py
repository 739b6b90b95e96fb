"""Alembic's environment. One line is about VerityDB: who migrates, and why."""

from __future__ import annotations

import os

from alembic import context
from models import Base
from sqlalchemy import create_engine, pool

config = context.config
url = os.environ.get("CLINIC_URL") or config.get_main_option("sqlalchemy.url") or ""

if context.is_offline_mode():
    context.configure(url=url, target_metadata=Base.metadata, literal_binds=True, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect().execution_options(veritydb_actor="alembic", veritydb_reason="migration") as connection:
        # SQLite's ALTER TABLE can do little; in batch mode Alembic makes the table anew and copies the rows.
        context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()
