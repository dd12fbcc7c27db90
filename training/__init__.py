"""The offline training package."""
