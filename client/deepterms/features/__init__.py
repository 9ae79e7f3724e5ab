"""Photos into descriptors (R-MAC over convolutional feature maps), and stores of descriptors.

Importing this package does not import torch, Pillow or pyarrow; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepterms.optional import lazy_names

if TYPE_CHECKING:
    from deepterms.features.backbones import BACKBONES, Backbone
    from deepterms.features.embeddings import EmbeddingFolder
    from deepterms.features.extractor import Extracted, RMACExtractor
    from deepterms.features.images import find_images, load_image
    from deepterms.features.plain_array import read_npy
    from deepterms.features.store import FeatureBatch, FeatureStore
    from deepterms.features.store_writer import StoreReport, discard_damaged, extract_to_store, write_store
    from deepterms.features.whitening import PCAWhitening

_MODULES = {
    "BACKBONES": "backbones",
    "Backbone": "backbones",
    "EmbeddingFolder": "embeddings",
    "Extracted": "extractor",
    "FeatureBatch": "store",
    "FeatureStore": "store",
    "PCAWhitening": "whitening",
    "RMACExtractor": "extractor",
    "StoreReport": "store_writer",
    "discard_damaged": "store_writer",
    "extract_to_store": "store_writer",
    "find_images": "images",
    "load_image": "images",
    "read_npy": "plain_array",
    "write_store": "store_writer",
}

__all__ = [
    "BACKBONES",
    "Backbone",
    "EmbeddingFolder",
    "Extracted",
    "FeatureBatch",
    "FeatureStore",
    "PCAWhitening",
    "RMACExtractor",
    "StoreReport",
    "discard_damaged",
    "extract_to_store",
    "find_images",
    "load_image",
    "read_npy",
    "write_store",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
