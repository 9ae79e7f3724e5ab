"""Migration: moves the name of an index to a new index while searches and writes continue."""

from deepterms.migration.operations import MigrationReport, drop_old, migrate, roll_back
from deepterms.migration.plan import parse_layout
from deepterms.migration.repivoting import repivot_encoder, respill_encoder

__all__ = ["MigrationReport", "drop_old", "migrate", "parse_layout", "repivot_encoder", "respill_encoder", "roll_back"]
