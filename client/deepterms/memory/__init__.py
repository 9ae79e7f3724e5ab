"""The index without a server: exact search in memory, the reference that every engine is compared with."""

from deepterms.memory.memory_index import MemoryIndex

__all__ = ["MemoryIndex"]
