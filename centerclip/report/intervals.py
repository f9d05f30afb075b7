"""The 95 % intervals of a table's recalls, and of their differences to the baseline."""

from collections.abc import Mapping

import pandas as pd

from centerclip.command import UserError
from centerclip.evaluate.ranks import Ranks
from centerclip.evaluate.statistics import differences, estimates
from centerclip.report.rows import DIFFERENCE, INTERVALS, R1, RECALLS

Trainings = Mapping[int, dict[str, Ranks]]  # of a variant, by seed


def intervals(trainings: Mapping[str, Trainings], baselines: Mapping[str, str]) -> pd.DataFrame:
    """INTERVALS of each variant of `baselines`, variant -> its baseline. Missing for a variant without `trainings`."""
    lines = {}
    for variant, baseline in baselines.items():
        own, other = trainings.get(variant, {}), trainings.get(baseline, {})
        try:
            lines[variant] = of_recalls(own) | (of_difference(own, other) if variant != baseline else {})
        except UserError as error:
            raise UserError(f"the ranks of {variant} and {baseline}: {error}; evaluate both again") from None
    return pd.DataFrame.from_dict(lines, orient="index").reindex(columns=INTERVALS).astype(float)


def of_recalls(trainings: Trainings) -> dict[str, float]:
    """The ends of the interval of each of RECALLS."""
    found = estimates(list(trainings.values())) if trainings else {}
    return {f"{name} {end}": getattr(found[name], end) for name in RECALLS if found for end in ("low", "high")}


def of_difference(trainings: Trainings, baseline: Trainings) -> dict[str, float]:
    """The DIFFERENCE to a baseline, over the seeds that both have, and how sure it is."""
    paired = sorted(trainings.keys() & baseline.keys())
    if not paired:
        return {}
    found = differences(*([of[seed] for seed in paired] for of in (trainings, baseline)))[R1]
    numbers = {"low": found.low, "high": found.high, "p": found.p}
    numbers |= {"seeds": found.seeds, "std": found.seeds_std, "half": found.half}
    return {DIFFERENCE: found.value} | {f"{DIFFERENCE} {what}": number for what, number in numbers.items()}
