"""The window. Only this package and `app.__main__` may import PyQt6; the pipeline underneath never does."""
