"""An ablation as a table in Markdown, with what was measured beside what the paper says."""

import statistics
from typing import NamedTuple

from training.ablate.ablation import Ablation, Member
from training.ablate.variants import VARIANTS, Variant

_JUDGED_BY = "distrusted_l1"
"""The figure that a claim is held against: the error where the warped source is not trusted, which is what a memory is
to mend."""
_LEAST_SEEDS = 3
_T_95 = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""By the number of seeds: how many standard errors a mean has to be away from 0 (two-sided, seeds less one degrees of
freedom)."""
_T_95_OF_MORE = 2.262  # a little too strict


class Step(NamedTuple):
    """A variant beside the one before it, seed by seed.

    Attributes:
        changes: of the figure, one per seed that has both; negative is better.
        verdict: in words.
    """

    changes: tuple[float, ...]
    verdict: str


def step_between(members: list[Member], before: Variant, variant: Variant, figure: str = _JUDGED_BY) -> Step:
    """How a figure changes from one variant to the next in the same seeds.

    A claim is borne out, or contradicted, where the changes' mean differs from 0 with 95 % confidence (Student's t,
    over seeds). Two seeds say too little: their change would have to be nine times its standard deviation.
    """
    of = {(each.variant, each.seed): each.figures[figure] for each in members}
    seeds = sorted({each.seed for each in members})
    changes = tuple(
        of[variant.name, seed] - of[before.name, seed]
        for seed in seeds
        if (variant.name, seed) in of and (before.name, seed) in of
    )
    if len(changes) < _LEAST_SEEDS:
        return Step(changes, "too few seeds")
    mean, error = statistics.fmean(changes), statistics.stdev(changes) / len(changes) ** 0.5
    sure = abs(mean) > _T_95.get(len(changes), _T_95_OF_MORE) * error
    better = sure and mean < 0
    found = "better" if better else "worse" if sure and mean > 0 else "not told apart"
    if variant.claim != "better" or found == "not told apart":
        return Step(changes, found)
    return Step(changes, f"{found}: {'as the paper says' if better else 'contradicts the paper'}")


def format_table(ablation: Ablation) -> str:
    """The table, its budget above it and what it means below it."""
    budget = ablation.budget
    lines = [
        f"{budget['size_px']} px; for each of {budget['seeds']} seeds {budget['shared_steps']} steps that all variants "
        f"share, then {budget['steps']} steps of {budget['batch']} pairs for each; "
        f"{budget['training_clips']} training clips; held out: {budget['held_out_clips']} clips, "
        f"{budget['frames_per_clip']} driving frames each. {budget['minutes']:.0f} minutes of training in all, "
        f"{budget['threads']} thread{'s' * (budget['threads'] != 1)}, device {budget['device']}.",
        "",
        "| variant | parameters, M | GMAC per frame, plain / rewritten | L1 of copying | L1 where not trusted "
        "| PSNR, dB | beside the row before, by seed | the paper | found |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    before: Variant | None = None
    for variant in VARIANTS:
        size = ablation.sizes[variant.name]
        mine = [each for each in ablation.members if each.variant == variant.name]
        cells = [variant.label, f"{size.parameters:.2f}", f"{size.gmac:.3f} / {size.rewritten_gmac:.3f}"]
        cells.append(_spread([100 * each.figures["l1_of_copying"] for each in mine], 2, " %"))
        cells.append(_spread([each.figures["distrusted_l1"] for each in mine], 2))
        cells.append(_spread([each.figures["psnr_db"] for each in mine], 2))
        if before is None:
            cells += ["", "", ""]
        else:
            step = step_between(ablation.members, before, variant)
            cells += [", ".join(f"{change:+.3f}" for change in step.changes), variant.claim, step.verdict]
        lines.append(f"| {' | '.join(cells)} |")
        before = variant
    lines += [
        "",
        "Means over seeds, and the standard deviation between seeds behind ±. *L1 where not trusted* is in grey levels "
        "of 255, each pixel weighted by how little the occlusion map trusts the warped source; the changes beside the "
        "row before are of it, seed by seed, and negative is better.",
    ]
    if ablation.missing:
        lines.append(f"{ablation.missing} members are not done yet: the same command goes on with them.")
    return "\n".join(lines) + "\n"


def _spread(values: list[float], digits: int, unit: str = "") -> str:
    if not values:
        return "not measured"
    told = f"{statistics.fmean(values):.{digits}f}"
    return f"{told} ± {statistics.stdev(values):.{digits}f}{unit}" if len(values) > 1 else f"{told}{unit}"
