"""The same index without a server: exact, and the reference that every engine is compared with."""

from deepterms.memory.memory_index import MemoryIndex

__all__ = ["MemoryIndex"]
