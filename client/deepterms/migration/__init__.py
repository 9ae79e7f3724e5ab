"""An index's name to a new index, while searches and writes go on."""

from deepterms.migration.migrate import MigrationReport, drop_old, layout_called, migrate, roll_back
from deepterms.migration.repivoting import repivoted

__all__ = ["MigrationReport", "drop_old", "layout_called", "migrate", "repivoted", "roll_back"]
