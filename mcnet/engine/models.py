"""Models as an engine takes them, whatever file they come in."""

from pathlib import Path

from mcnet.engine.device import why_no_torch
from mcnet.model_card import is_safetensors
from mcnet.model_file import CheckpointError, ModelFile, find_model
from mcnet.phrases import phrase


def open_model(name_or_path: str | Path) -> ModelFile:
    """Open a model for an engine. torch is imported for the authors' files alone, which are torch's own.

    Args:
        name_or_path: a bundled model's name (`starter`), our `.safetensors` file, a folder that holds one (as
            `mcnet-train export` writes it, or a run that learns), or the authors' `.pth.tar`.

    Raises:
        CheckpointError: no such model, or the file is truncated, unsafe, of the wrong shape or holds NaN; or it is the
            authors', and torch is not installed.
    """
    path = find_model(name_or_path)
    if is_safetensors(path):
        return ModelFile.read(path)
    if lack := why_no_torch():
        raise CheckpointError(
            phrase(
                "{path} is a file of torch's, and {lack}: convert it once where torch is (`mcnet convert {name} "
                "model.safetensors --int8`), and use that",
                path=path,
                lack=lack,
                name=path.name,
            )
        )
    from mcnet.checkpoint import load_model

    return ModelFile.of(load_model(path))
