"""Several lists of recommendations for one user: rows that share no item."""

from gateway.rows.made import Rows, recommend_rows

__all__ = ["Rows", "recommend_rows"]
