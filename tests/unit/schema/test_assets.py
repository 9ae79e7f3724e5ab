"""Tests of the JSON assets that need no cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deepterms.deployment import diff_asset, normalise_body
from deepterms.errors import DeepTermsError
from deepterms.schema.assets import PIVOTS_TEMPLATE, Asset, list_assets, load_asset, load_processor
from deepterms.schema.layouts import LAYOUTS, Layout

TOP = Path(__file__).parents[3]


def test_the_files_are_those_of_the_layouts_and_of_pivots() -> None:
    files = {
        str(path.relative_to(TOP))
        for kind in ("index_templates", "ingest_pipelines")
        for path in (TOP / kind).glob("*.json")
    }
    assert files == {asset.file for asset in list_assets(LAYOUTS)}


@pytest.mark.parametrize("asset", list_assets(LAYOUTS), ids=lambda asset: asset.file)
def test_each_file_is_ready_for_curl(asset: Asset) -> None:
    text = (TOP / asset.file).read_text()
    assert text == json.dumps(asset.body, indent=2) + "\n"
    assert asset.body["version"] == 1
    if asset.kind == "ingest_pipelines":
        assert set(asset.body) == {"description", "version", "processors"}  # OpenSearch rejects others
        tags = [body["tag"] for processor in asset.body["processors"] for body in processor.values()]
        assert len(set(tags)) == len(tags)
    else:
        assert asset.body["index_patterns"] == [f"{asset.name}-*"]
        pipeline = asset.body["template"]["settings"]["index"].get("default_pipeline")
        assert pipeline == (None if asset.name == PIVOTS_TEMPLATE else asset.name)


def test_processors_have_one_line_for_their_parameters() -> None:
    """scripts/ops/restore.sh replaces this line with sed."""
    names = sorted(path.stem for path in (TOP / "ingest_pipelines" / "processors").iterdir())
    assert names == [
        "check-fingerprint-v1",
        "check-int8-vector-v1",
        "check-native-vector-v1",
        "keep-native-vector-v1",
        "sketch-vector-v1",
    ]
    for name in names:
        text = (TOP / "ingest_pipelines" / "processors" / f"{name}.json").read_text()
        processor = load_processor(name, {})
        assert text == json.dumps(processor, indent=2) + "\n"
        assert text.count('\n    "params": {},\n') == 1
        assert load_processor(name, {"dimensions": 4})["script"] == {**processor["script"], "params": {"dimensions": 4}}


def test_templates_differ_only_in_the_layout() -> None:
    """They share no component template, so that each file is complete; but their common part is the same text."""
    shared = []
    for asset in list_assets(LAYOUTS):
        if asset.kind == "index_templates" and asset.name != PIVOTS_TEMPLATE:
            body = json.loads(json.dumps(asset.body).replace(asset.name, "NAME"))
            layout = body["template"]["mappings"]["_meta"]["deepterms"].pop("layout")
            assert asset.name == f"deepterms-{layout}-v1"
            body["_meta"]["description"] = ""
            del body["template"]["mappings"]["properties"]["codewords"]
            for part in ("similarity", "analysis"):
                body["template"]["settings"]["index"].pop(part, None)
            shared.append(body)
    assert shared == [shared[0]] * len(LAYOUTS)


def test_term_pipelines_share_their_checks() -> None:
    processors = [
        {body["tag"]: body for processor in asset.body["processors"] for body in processor.values()}
        for asset in (load_asset("ingest_pipelines", layout.resource) for layout in LAYOUTS)
    ]
    for tag in ("check-terms", "check-vector"):
        assert len({pipeline[tag]["source"] for pipeline in processors}) == 1


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_layout_and_pipeline_agree_on_the_largest_frequency(layout: Layout) -> None:
    params = load_asset("ingest_pipelines", layout.resource).body["processors"][0]["script"]["params"]
    assert params["largest_frequency"] == layout.max_term_frequency
    limit = re.match(r"(a whole number from 1 to )?(\d+)", params["frequencies"])
    assert limit is not None
    assert limit[2] == str(layout.max_term_frequency)


def test_the_table_lists_every_layout_with_its_engines() -> None:
    rows = [
        [cell.strip() for cell in line.replace("\\|", "/").split("|")[1:-1]]
        for line in (TOP / "index_templates" / "README.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    engines = {row[0].strip("`"): tuple(row[3:5]) for row in rows if len(row) == 6}
    first = {
        layout.name: tuple(
            f"{version[0]}.{version[1]}" if version else "–"
            for version in (layout.engines.get(engine) for engine in ("elasticsearch", "opensearch"))
        )
        for layout in LAYOUTS
    }
    assert engines == first


def test_pipelines_are_deployed_first() -> None:
    kinds = [asset.kind for asset in list_assets(LAYOUTS)]
    assert kinds == sorted(kinds, reverse=True)


def test_a_missing_file_means_a_damaged_installation() -> None:
    with pytest.raises(DeepTermsError, match="reinstall"):
        load_asset("index_templates", "deepterms-none-v1")


def test_the_engines_form_of_a_template_gives_no_diff() -> None:
    (asset,) = [asset for asset in list_assets(LAYOUTS) if asset.file == "index_templates/deepterms-words-v1.json"]
    held = json.loads(json.dumps(asset.body))
    held["composed_of"], held["created_date_millis"] = [], 1
    index = held["template"]["settings"].pop("index")
    held["template"]["settings"] = {f"index.{key}": value for key, value in index.items()}
    assert diff_asset(asset, held) == ""


def test_a_difference_is_shown_as_a_diff() -> None:
    asset = list_assets(LAYOUTS)[0]
    held = {**asset.body, "version": 7}
    lines = diff_asset(asset, held).splitlines()
    assert f"+++ {asset.file}" in lines
    assert '-  "version": 7' in lines
    assert '+  "version": 1' in lines


def test_settings_are_compared_as_text() -> None:
    one = normalise_body(
        "index_templates", {"template": {"settings": {"number_of_shards": 1, "index": {"a": {"b": True}}}}}
    )
    other = normalise_body(
        "index_templates", {"template": {"settings": {"index": {"number_of_shards": "1"}, "a.b": "true"}}}
    )
    assert one == other
