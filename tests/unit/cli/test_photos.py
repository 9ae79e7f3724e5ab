from __future__ import annotations

import pytest
import typer

from deepterms.cli.photos import extractor_of


def test_sizes_speak_of_the_side_that_is_named() -> None:
    shorter, longer = (
        extractor_of("efficientnet_lite0", "64,96", "random", "none", longest_side=longest) for longest in (False, True)
    )
    assert (shorter.sizes, shorter.side) == ((64, 96), "min")
    assert (longer.sizes, longer.side) == ((64, 96), "max")
    with pytest.raises(typer.BadParameter, match="whole numbers with commas"):
        extractor_of("efficientnet_lite0", "64;96", "random", "none")
