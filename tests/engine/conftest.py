"""The real engine for this folder."""

from tests.engines import tiny_engine, tiny_model

__all__ = ["tiny_engine", "tiny_model"]
