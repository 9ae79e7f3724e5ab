from __future__ import annotations

import pytest
import typer

from deepterms.cli.photos import build_extractor


def test_sizes_apply_to_the_shorter_or_the_longer_side() -> None:
    shorter, longer = (
        build_extractor("efficientnet_lite0", "64,96", "random", "none", longest_side=longest)
        for longest in (False, True)
    )
    assert (shorter.sizes, shorter.side) == ((64, 96), "min")
    assert (longer.sizes, longer.side) == ((64, 96), "max")
    with pytest.raises(typer.BadParameter, match="comma-separated whole numbers"):
        build_extractor("efficientnet_lite0", "64;96", "random", "none")
