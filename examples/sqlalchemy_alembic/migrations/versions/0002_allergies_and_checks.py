"""Allergies, names that must be there, notes that must say something: in batch mode, and with a change of the rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("patients") as batch:
        batch.add_column(sa.Column("allergies", sa.JSON, nullable=True))
    patients = sa.table("patients", sa.column("name", sa.String), sa.column("allergies", sa.JSON))
    op.execute(patients.update().values(allergies=[]))
    op.execute(patients.update().where(patients.c.name.is_(None)).values(name="unknown"))
    with op.batch_alter_table("patients") as batch:
        batch.alter_column("allergies", existing_type=sa.JSON(), nullable=False)
        batch.alter_column("name", existing_type=sa.String(80), type_=sa.String(), nullable=False)
    with op.batch_alter_table("visits") as batch:
        batch.create_check_constraint(op.f("ck_visits_note_is_not_empty"), "length(note) > 0")


def downgrade() -> None:
    with op.batch_alter_table("visits") as batch:
        batch.drop_constraint(op.f("ck_visits_note_is_not_empty"), type_="check")
    with op.batch_alter_table("patients") as batch:
        batch.alter_column("name", existing_type=sa.String(), type_=sa.String(80), nullable=True)
        batch.drop_column("allergies")
