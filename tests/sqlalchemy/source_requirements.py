"""SQLAlchemy's own requirements, from its sources, for runs on a file, where one of them cannot be met."""

from sqlalchemy.testing import exclusions
from test.requirements import DefaultRequirements


class OnAFile(DefaultRequirements):
    """What pysqlite offers, save writing into a second, attached file, which would be past that file's log."""

    @property
    def schemas(self):
        return exclusions.closed()
