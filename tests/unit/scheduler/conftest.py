"""What the scheduler's unit tests share."""

from tests.support.databases import data_dir

__all__ = ["data_dir"]
