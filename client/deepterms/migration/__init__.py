"""An index's name to a new index, while searches and writes go on."""

from deepterms.migration.repivoting import repivoted
from deepterms.migration.upgrade import MigrationReport, drop_old, layout_called, migrate, roll_back

__all__ = ["MigrationReport", "drop_old", "layout_called", "migrate", "repivoted", "roll_back"]
