"""An index's name to a new index, while searches and writes go on."""

from deepterms.migration.migrate import MigrationReport, drop_old, migrate, parse_layout, roll_back
from deepterms.migration.repivoting import repivot_encoder

__all__ = ["MigrationReport", "drop_old", "migrate", "parse_layout", "repivot_encoder", "roll_back"]
