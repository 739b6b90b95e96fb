"""``row_committed``: sent for each row that a connection of this process has committed, once it is.

Django's own ``post_save`` is sent before the transaction ends, by ``save()`` only, and knows nothing of bulk updates,
cascades in the database, or SQL. This one comes from the log::

    from django.dispatch import receiver
    from veritydb.django.signals import row_committed

    @receiver(row_committed, sender=Patient)
    def changed(sender, update, using, **kwargs):
        cache.delete(f"patient-{update.row_id}")

``sender`` is the model of the table (None for a table without one), ``update`` a
:class:`veritydb.subscriptions.TableUpdate` with images, ``using`` the alias of the connection. Receivers run in the
committing thread, after COMMIT and before the call that committed returns; what they raise is logged, and undoes
nothing. Changes of other processes are not sent: for those, subscribe (docs/guides/subscriptions.md).

Connect receivers in ``AppConfig.ready()``: a connection that is opened when nobody listens does not look at what it
commits.
"""

# Django has no types, and what is inferred from its code is half known; strict would say so at every line.
# pyright: basic

from __future__ import annotations

from functools import cache
from typing import Any

from django.apps import apps
from django.dispatch import Signal

row_committed = Signal()


def watch(connection: Any, alias: str) -> None:
    """Send the signal for what ``connection`` commits, if anybody listens."""
    if row_committed.receivers:
        connection.on_commit(_Sender(alias))


class _Sender:
    """Sends the signal for the transactions of one connection."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def __call__(self, committed: Any) -> None:
        from veritydb.subscriptions import TableUpdate

        if not row_committed.receivers:
            return
        for update in committed.updates(images=True):
            if isinstance(update, TableUpdate):
                row_committed.send_robust(_model_of(update.table), update=update, using=self._alias)


@cache
def _models() -> dict[str, Any]:
    return {model._meta.db_table.lower(): model for model in apps.get_models(include_auto_created=True)}


def _model_of(table: str) -> Any:
    return _models().get(table.lower())


__all__ = ["row_committed"]
