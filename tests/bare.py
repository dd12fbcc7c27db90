"""Of a Python that has torch and NumPy and little else, as a machine with a GPU on which nothing can be installed."""

_MISSING = (
    "accelerate",
    "av",
    "mediapipe",
    "openvino",
    "PIL",
    "pillow_heif",
    "platformdirs",
    "PyQt6",
    "pyvirtualcam",
    "tensorboard",
    "tqdm",
    "webdataset",
)


def code_without(*more: str) -> str:
    """Lines of Python after which these packages, and what no such machine has, cannot be imported."""
    return f"import sys\nfor name in {(*_MISSING, *more)!r}:\n    sys.modules[name] = None\n"
