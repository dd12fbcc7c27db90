"""Packages that are not there, and what to do: it depends on how the app was installed."""

import importlib.util
import sys

from mcnet.phrases import phrase

_OURS = ("app", "assets", "mcnet", "training")
_BY_PIP = {  # where pip knows a module by another name
    "c2pa": "c2pa-python",
    "cv2": "opencv-python",
    "openvino": '"mcnet-avatar[openvino]"',
    "PIL": "pillow",
    "pillow_heif": "pillow-heif",
    "tomli_w": "tomli-w",
    "Xlib": "python-xlib",
}


def is_bundled() -> bool:
    """Whether this is the program that is ready to run: its packages are inside, and no other can be added."""
    return bool(getattr(sys, "frozen", False))


def install_command(module: str) -> str:
    """What installs a package; "" in the bundle, where nothing does.

    Args:
        module: its name in Python.
    """
    return "" if is_bundled() else f"pip install {_BY_PIP.get(module, module)}"


def lack_of(module: str) -> str:
    """That a package is not installed, and what to do; without a full stop.

    Args:
        module: its name in Python.
    """
    if command := install_command(module):
        return phrase("the package {module} is not installed ({command})", module=module, command=command)
    if module == "torch":
        return phrase("the bundle has no torch (an installation by pip has)")
    return phrase("the package {module} is missing in the bundle (install the app again)", module=module)


def missing_package(error: ImportError) -> str | None:
    """Likewise of a package without which something could not be imported; None where it failed for another reason."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not module or module in (*_OURS, *sys.stdlib_module_names):
        return None
    if sys.modules.get(module) is not None or importlib.util.find_spec(module) is not None:
        return None  # it is there, and lacks a part
    if is_bundled():
        return lack_of(module)
    return phrase("{lack}; in a clone, `make setup` installs every package", lack=lack_of(module))


def told_missing(error: ModuleNotFoundError) -> str:
    """Likewise, for where a command ends: an error that no missing package explains is raised again."""
    lack = missing_package(error)
    if lack is None:
        raise error
    return lack
