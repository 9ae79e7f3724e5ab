"""A real OpenSearch as a child process, assembled on first use; it needs nothing but Python packages."""

from deepterms.node.assembly import assemble
from deepterms.node.folders import cache_dir, data_dir
from deepterms.node.java_arguments import java_arguments
from deepterms.node.process import Node
from deepterms.node.state import NodeStatus

__all__ = ["Node", "NodeStatus", "assemble", "cache_dir", "data_dir", "java_arguments"]
