"""A model's folder as hubs know it: weights, `config.json`, a README with front matter, and a sheet to look at."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcnet.bench.macs import count_macs
from mcnet.commands.outputs import check_outputs
from mcnet.config import McnetConfig
from mcnet.files import replacing
from mcnet.model_card import CARD_FORMAT, CONFIG_FILE, MODEL_FILE, README_FILE, fit_to_show, licence_of, licences_of
from mcnet.model_file import CheckpointError, ModelInfo
from training.data import NO_LICENCE

SHEET_FILE = "sheet.png"
_PNG = b"\x89PNG\r\n\x1a\n"
_OTHER_FORMATS = {".bin", ".ckpt", ".onnx", ".pt", ".pth", ".tar", ".zip"}
_HUB_LICENCES = {
    "apache-2.0": "apache-2.0",
    "cc by 4.0": "cc-by-4.0",
    "cc by-sa 4.0": "cc-by-sa-4.0",
    "cc-by-4.0": "cc-by-4.0",
    "cc-by-sa-4.0": "cc-by-sa-4.0",
    "cc0": "cc0-1.0",
    "cc0 1.0": "cc0-1.0",
    "cc0-1.0": "cc0-1.0",
    "mit": "mit",
}
"""How people write a licence, in lower case, and its name on the hubs."""
_NOTHING_NOTED = "Its file notes nothing about the licence of its data: see what was published with it."
_FIGURES = {
    "l1_of_copying": ("L1, of copying the source", "at most 100 %: showing the portrait as it is"),
    "akd_of_copying": ("AKD, of copying the source", "the face's landmarks, likewise"),
    "mouth_correlation": ("mouth opening: correlation of change", "1 is best"),
    "lids_correlation": ("lids: correlation of change", "1 is best"),
}


def check_folder(folder: Path, sheet: Path | None = None) -> None:
    """See that a model's folder may be written there: nothing of somebody else's is replaced.

    Args:
        folder: where.
        sheet: the picture that it is to get, if one was chosen.

    Raises:
        CheckpointError: it is a file, has the name of one, or is a folder with other things in it.
        OutputError: one of its files cannot be replaced, or the sheet is the one that is there.
    """
    if folder.suffix.lower() in _OTHER_FORMATS:
        raise CheckpointError(
            f"cannot write a model to {folder}: got suffix {folder.suffix!r}, expected .safetensors, or a folder's name"
        )
    if folder.is_file():
        raise CheckpointError(
            f"{folder} is a file: expected a name that ends in .safetensors, or a folder that is new, empty or a "
            "model's"
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MODEL_FILE).is_file():
        raise CheckpointError(f"{folder} has other files in it: expected a folder that is new, empty or a model's")
    if folder.is_dir():
        names = (MODEL_FILE, CONFIG_FILE, README_FILE, SHEET_FILE)
        check_outputs({name: folder / name for name in names}, {} if sheet is None else {"--sheet": sheet})


def check_sheet(sheet: Path) -> None:
    """See that a sheet is a picture as its name in the folder says.

    Raises:
        CheckpointError: it is none, or cannot be read.
    """
    try:
        with sheet.open("rb") as file:
            found = file.read(len(_PNG))
    except OSError as error:
        raise CheckpointError(f"cannot read the sheet {sheet}: {error.strerror or error}") from error
    if found != _PNG:
        raise CheckpointError(
            f"the sheet {sheet} is no PNG: give what `mcnet-train evaluate --sheet` wrote, or another"
        )


def write_beside(folder: Path, config: McnetConfig, info: ModelInfo, sheet: Path | None) -> None:
    """Write all but the weights.

    Args:
        folder: where they are.
        config: of the network.
        info: what the weights' header says; `training["evaluation"]` has the figures, if there are any.
        sheet: a picture to show, or None.

    Raises:
        CheckpointError: it cannot be written.
    """
    training = dict(info.training)
    card = {
        "format": CARD_FORMAT,
        "name": info.name,
        "library": "mcnet-avatar",
        "content_hash": info.content_hash,
        "licence": licence_of(training),
        "evaluation": training.get("evaluation"),
        "config": config.to_dict(),
        "training": training,
    }
    try:
        if sheet is not None:
            shutil.copyfile(sheet, folder / SHEET_FILE)
        shown = (folder / SHEET_FILE).is_file()
        for name, text in (
            (README_FILE, readme(config, info, sheet=shown)),
            (CONFIG_FILE, json.dumps(card, indent=2) + "\n"),
        ):
            with replacing(folder / name) as partial:
                partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write {error.filename or folder}: {error.strerror or error}") from error


def readme(config: McnetConfig, info: ModelInfo, *, sheet: bool) -> str:
    """The README: front matter that hubs read, and what people want to know."""
    training = info.training
    evaluation = training.get("evaluation")
    macs = count_macs(config)
    data = training.get("data")
    data = data if isinstance(data, Mapping) else {}
    memory = config.memory
    lines = [
        *_front_matter(info, evaluation),
        f"# {info.name}",
        "",
        "A member of the MCNet family (Hong & Xu, ICCV 2023), trained with mcnet-avatar: it moves a portrait as a "
        "performer moves.",
        "",
        "| | |",
        "| --- | --- |",
        f"| Network | {config.size_px} px, {config.num_keypoints} keypoints, {macs.parameters:.2f} M parameters, "
        f"{macs.rewritten.total:.2f} GMAC per frame once the source is cached |",
        f"| Memory | {_memory(memory.levels_px, memory.conditioning)} |",
        f"| Training | {training.get('steps', 'an unknown number of')} steps, exported on "
        f"{training.get('exported', '?')} |",
        f"| Weights | `{MODEL_FILE}`, SHA-256 of the tensors {info.content_hash[:16]} |",
        "",
        "```sh",
        f"mcnet animate --model FOLDER --source me.jpg --driving talk.mp4 --output out.mp4  # {info.name}'s folder",
        "mcnet-avatar --model FOLDER",
        "```",
        "",
        "## Figures",
        *_figure_lines(evaluation),
        "",
        "## Data and its licence",
        f"{data.get('clips', '?')} clips of {data.get('clip_identities', '?')} people, "
        f"{data.get('stills', '?')} stills and {data.get('packs_of_photos', '?')} packs of photographs, "
        f"{data.get('frames', '?')} frames; fingerprint `{data.get('fingerprint', '?')}`.",
        "",
        *_licence_lines(data),
        *_origin_lines(training),
    ]
    if sheet:
        lines += ["", "## To look at", f"![What it makes of people]({SHEET_FILE})"]
    lines += [
        "",
        "Animate pictures only of people who agreed to it, and say that the result is synthetic.",
    ]
    return "\n".join(lines) + "\n"


def _front_matter(info: ModelInfo, evaluation: object) -> list[str]:
    """What hubs read: YAML, whose strings are written as JSON has them."""
    licences = list(licences_of(info.training))
    known = _HUB_LICENCES.get(licences[0].strip().lower()) if len(licences) == 1 else None
    lines = ["---", f"license: {known or 'other'}"]
    if known is None:
        lines.append(f"license_name: {json.dumps(licence_of(info.training) or NO_LICENCE)}")
    lines += [
        "library_name: mcnet-avatar",
        "pipeline_tag: image-to-video",
        "tags: [mcnet, talking-head, face-animation]",
    ]
    if isinstance(evaluation, Mapping):
        lines += [
            "model-index:",
            f"- name: {json.dumps(info.name)}",
            "  results:",
            "  - task: {type: image-to-video, name: self-reenactment}",
            f"    dataset: {{type: private, name: {json.dumps(str(evaluation['split']))}}}",
            "    metrics:",
            *(
                f"    - {{type: {name}, name: {json.dumps(_FIGURES[name][0])}, value: {value:.6g}}}"
                for name, value in evaluation["figures"].items()
            ),
        ]
    return [*lines, "---"]


def _figure_lines(evaluation: object) -> list[str]:
    if not isinstance(evaluation, Mapping):
        return [
            "Not measured. `mcnet-train evaluate FOLDER DATA --json figures.json` does it, and `mcnet-train export RUN "
            "FOLDER --figures figures.json` writes them here."
        ]
    rows = [
        f"| {_FIGURES[name][0]} | {value:.1%} | {_FIGURES[name][1]} |"
        if name.endswith("of_copying")
        else f"| {_FIGURES[name][0]} | {value:.3f} | {_FIGURES[name][1]} |"
        for name, value in evaluation["figures"].items()
    ]
    return [
        f"Self-reenactment on {evaluation['clips']} clips of {evaluation['people']} people of the split "
        f"`{evaluation['split']}`, {evaluation['pairs']} pairs, keypoints {evaluation['method']}, by "
        "`mcnet-train evaluate`.",
        "",
        "| figure | value | |",
        "| --- | --- | --- |",
        *rows,
    ]


def _licence_lines(data: Mapping[str, Any]) -> list[str]:
    licences = data.get("licences")
    if not isinstance(licences, Mapping) or not licences:
        return ["Nothing was noted about the licence of the data."]
    return [
        "| licence | clips |",
        "| --- | --- |",
        *(f"| {fit_to_show(licence)} | {clips or 'unknown'} |" for licence, clips in licences.items()),
    ]


def _origin_lines(training: Mapping[str, Any]) -> list[str]:
    """The licences of the data behind the models that this one began with and was taught by."""
    lines = []
    for part, told in (("initial", "It began with the weights of"), ("teacher", "Its motion was taught by")):
        origin = training.get(part)
        if isinstance(origin, Mapping):
            name = fit_to_show(str(origin.get("from", origin.get("name", "a model without a name"))))
            noted = _licence_lines(origin) if origin.get("licences") else [_NOTHING_NOTED]
            lines += ["", f"{told} {name}.", "", *noted]
    return lines


def _memory(levels_px: tuple[int, ...], conditioning: str) -> str:
    if not levels_px:
        return "none"
    levels = " and ".join(map(str, levels_px))
    return f"compensates the features at {levels} px, conditioned on: {conditioning}"
