"""How often a comparison finds a difference where there is none, at 5%.

    python -m benchmarks.error_rates
    python -m benchmarks.error_rates --answers 16 --seeds 3 --spread 0.03

Two methods have the same accuracy on problems of the difficulty of `kk_tiny`'s. What they differ in are the
answers, what a run makes of each problem, and how much each seed's run is better or worse at all of them.
"""

from __future__ import annotations

import argparse

import numpy as np

from rlad_core.evaluation import Difference, Scores, differences

CASES = ((1, 3, 0.0), (1, 3, 0.02), (1, 3, 0.04), (1, 2, 0.02), (16, 3, 0.02), (16, 3, 0.03), (16, 2, 0.03))
"""Answers to a problem, seeds, and the standard deviation over seeds of the methods' difference."""
AT_ONCE = 125
"""Pairs whose resamples are as many as those of a report."""


def pairs_without_a_difference(
    answers: int, seeds: int, spread: float, problems: int, count: int
) -> list[Difference]:
    """What a report would say of each."""
    generator = np.random.default_rng(0)
    hardness = generator.normal(0.9, 1.5, problems)

    def scores() -> Scores:
        right = 1 / (1 + np.exp(-hardness - generator.normal(0, 0.5, (seeds, problems))))
        shifted = right + generator.normal(0, spread / np.sqrt(2), (seeds, 1))
        return generator.binomial(answers, np.clip(shifted, 0, 1)) / answers

    pairs = [(("one", "other"), {"all": scores()}, {"all": scores()}) for _ in range(count)]
    return [each for start in range(0, count, AT_ONCE) for each in differences(pairs[start:][:AT_ONCE])]


def main() -> None:
    """A line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--answers", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--spread", type=float, default=0.0, help="Over seeds, in shares of 1.")
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=500)
    told = parser.parse_args()
    least = {"answers": 1, "seeds": 2, "spread": 0, "problems": 1, "pairs": 1}
    for name, value in vars(told).items():
        if value is not None and not least[name] <= value < np.inf:
            parser.error(f"--{name} is {value}, wanted at least {least[name]}")
    if told.answers is None and (told.seeds, told.spread) != (3, 0.0):
        parser.error("--seeds and --spread are of one case. Write --answers too")
    cases = CASES if told.answers is None else ((told.answers, told.seeds, told.spread),)
    print("answers  seeds  spread, points  p < 0.05  t-test < 0.05")
    for answers, seeds, spread in cases:
        found = pairs_without_a_difference(answers, seeds, spread, told.problems, told.pairs)
        below = np.mean([each.p_value is not None and each.p_value < 0.05 for each in found])
        by_t = np.mean([each.t_test is not None and each.t_test < 0.05 for each in found])
        print(f"{answers:>7}  {seeds:>5}  {100 * spread:>14.1f}  {below:>8.1%}  {by_t:>13.1%}", flush=True)


if __name__ == "__main__":
    main()
