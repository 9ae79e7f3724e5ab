"""Frontier: of many settings, those that no other one beats in both recall and milliseconds."""

from __future__ import annotations

from collections.abc import Iterable

from deepterms.schema.tuning import SearchSetting

__all__ = ["keep_cheapest"]


def keep_cheapest(settings: Iterable[SearchSetting]) -> tuple[SearchSetting, ...]:
    """Keep each setting that finds more than every cheaper one, cheapest first."""
    kept: list[SearchSetting] = []
    for setting in sorted(settings, key=lambda setting: (setting.ms, -setting.recall)):
        if not kept or setting.recall > kept[-1].recall:
            kept.append(setting)
    return tuple(kept)
