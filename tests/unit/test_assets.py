"""The JSON at the top of the repository: what every file must be, without a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepterms.assets import assets_of, load_asset
from deepterms.deployment import difference, normalised
from deepterms.errors import DeepTermsError
from deepterms.layouts import LAYOUTS

TOP = Path(__file__).parents[2]


def test_every_file_belongs_to_a_layout_and_every_layout_has_its_files() -> None:
    files = {
        str(path.relative_to(TOP))
        for kind in ("index_templates", "ingest_pipelines")
        for path in (TOP / kind).glob("*.json")
    }
    assert files == {asset.file for asset in assets_of(LAYOUTS)}


@pytest.mark.parametrize("asset", assets_of(LAYOUTS), ids=lambda asset: asset.file)
def test_each_file_is_ready_for_curl(asset: object) -> None:
    from deepterms.assets import Asset

    assert isinstance(asset, Asset)
    text = (TOP / asset.file).read_text()
    assert text == json.dumps(asset.body, indent=2) + "\n"
    assert asset.body["version"] == 1
    if asset.kind == "ingest_pipelines":
        assert set(asset.body) == {"description", "version", "processors"}  # OpenSearch refuses more
        tags = [body["tag"] for processor in asset.body["processors"] for body in processor.values()]
        assert len(set(tags)) == len(tags)
    else:
        assert asset.body["index_patterns"] == [f"{asset.name}-*"]
        assert asset.body["template"]["settings"]["index"]["default_pipeline"] == asset.name


def test_pipelines_come_first() -> None:
    kinds = [asset.kind for asset in assets_of(LAYOUTS)]
    assert kinds == sorted(kinds, reverse=True)


def test_a_missing_file_is_a_damaged_installation() -> None:
    with pytest.raises(DeepTermsError, match="reinstall"):
        load_asset("index_templates", "deepterms-none-v1")


def test_the_engines_own_form_of_a_template_is_no_difference() -> None:
    (asset,) = [asset for asset in assets_of(LAYOUTS) if asset.file == "index_templates/deepterms-words-v1.json"]
    held = json.loads(json.dumps(asset.body))
    held["composed_of"], held["created_date_millis"] = [], 1
    index = held["template"]["settings"].pop("index")
    held["template"]["settings"] = {f"index.{key}": value for key, value in index.items()}
    assert difference(asset, held) == ""


def test_a_difference_is_shown_as_a_diff() -> None:
    asset = assets_of(LAYOUTS)[0]
    held = {**asset.body, "version": 7}
    lines = difference(asset, held).splitlines()
    assert f"+++ {asset.file}" in lines
    assert '-  "version": 7' in lines
    assert '+  "version": 1' in lines


def test_settings_are_compared_as_text() -> None:
    one = normalised(
        "index_templates", {"template": {"settings": {"number_of_shards": 1, "index": {"a": {"b": True}}}}}
    )
    other = normalised(
        "index_templates", {"template": {"settings": {"index": {"number_of_shards": "1"}, "a.b": "true"}}}
    )
    assert one == other
