"""Which version of the project this is."""

import importlib.metadata


def project_version() -> str:
    """As pyproject.toml has it, which is the one place; `unknown` where the package is not installed."""
    try:
        return importlib.metadata.version("mcnet-avatar")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
