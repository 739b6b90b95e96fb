"""VerityDB as a SQLAlchemy dialect: ``veritydb:///clinic.db``, and ``veritydb+aio:///clinic.db`` for asyncio.

SQLAlchemy loads it by its entry points; a program imports nothing from here, save :func:`register` where its schema
uses ``REGEXP``. The dialect is SQLAlchemy's own for SQLite over another driver, so everything that SQLAlchemy knows of
SQLite, and everything written for ``dialect.name == "sqlite"``, holds::

    engine = create_engine("veritydb:///clinic.db?key_file=/run/secrets/clinic&actor=reception")
    with engine.connect().execution_options(veritydb_actor="dr.lee", veritydb_reason="first visit") as connection:
        connection.execute(insert(patients), rows)
        connection.commit()

The map::

    dialect           what differs from SQLAlchemy's dialect for sqlite3
    urls              what a URL may say
    characteristics   actor and reason as execution options
    functions         the SQL functions that SQLAlchemy adds
    aio, adapter      the same for asyncio, over veritydb.aio
"""

from __future__ import annotations

from veritydb.sqlalchemy.functions import register

__all__ = ["register"]
