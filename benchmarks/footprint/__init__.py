"""Predicted seconds beside those of a public trace."""
