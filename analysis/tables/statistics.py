"""Statistics: paired comparisons over blocks and ranks over blocks, on plain lists.

Written here because importing SciPy takes longer than a table; the tests compare every number with
SciPy's. If the data do not allow an answer, the answer is None.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, fmean

SIGNIFICANT = 0.05
WILCOXON_FROM = 6  # with five blocks or fewer its p cannot go below 0.05
EXACT_UP_TO = 50  # differences whose 2^n signs are counted; the normal approximation beyond

Value = float | None


@dataclass(frozen=True)
class Paired:
    """Comparison of two things on the same blocks; all but `n`, `effect` and the p in their unit.

    `n` counts the blocks with both values. One block has no spread: `sd` and all that needs it are
    None. If every block has the same difference, no test is possible: the interval, the effect and
    both p are None.
    """

    n: int
    mean_a: Value = None
    mean_b: Value = None
    difference: Value = None  # mean of a less b
    sd: Value = None  # of the differences, n - 1
    low: Value = None  # 95 % t interval of the difference
    high: Value = None
    effect: Value = None  # Cohen's d_z: difference / sd (Cohen, 1988)
    p: Value = None  # two-sided paired t test (Student, 1908)
    wilcoxon_p: Value = None  # signed-rank test, two-sided; None below WILCOXON_FROM blocks


def paired(a: Sequence[Value], b: Sequence[Value]) -> Paired:
    """Compare a with b, block by block; a block without both values (None, NaN) is left out.

    Raises `ValueError` if the lists differ in length.
    """
    pairs = [
        (first, second)
        for first, second in zip(a, b, strict=True)
        if first is not None and second is not None and math.isfinite(first + second)
    ]
    n = len(pairs)
    if not n:
        return Paired(0)
    mean_a, mean_b = (fmean(values) for values in zip(*pairs, strict=True))
    differences = [first - second for first, second in pairs]
    mean = fmean(differences)
    if n == 1:
        return Paired(1, mean_a, mean_b, mean)
    # Accuracies are ratios of whole numbers: equal differences may differ in the last bits.
    least = 1e-12 * max(abs(mean_a), abs(mean_b))
    if max(differences) - min(differences) <= least:
        return Paired(n, mean_a, mean_b, mean if abs(mean) > least else 0.0, sd=0.0)
    sd = _stdev(differences)
    error = sd / math.sqrt(n)
    half = t_quantile(n - 1) * error
    return Paired(
        n,
        mean_a,
        mean_b,
        mean,
        sd,
        mean - half,
        mean + half,
        mean / sd,
        t_p_value(mean / error, n - 1),
        wilcoxon(differences),
    )


def _stdev(values: Sequence[float]) -> float:
    """Return the standard deviation, n - 1; exact sums as in `statistics`, ten times as fast."""
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def wilcoxon(differences: Sequence[float]) -> Value:
    """Return the two-sided p of the signed-rank test (Wilcoxon, 1945), ties at mean ranks.

    Zeros are left out. Exact given the ranks up to `EXACT_UP_TO` differences, then by the normal
    distribution without continuity correction. None below `WILCOXON_FROM` differences.
    """
    # Equal differences of accuracies may differ in the last bits.
    values = [round(value, 12) for value in differences if round(value, 12)]
    n = len(values)
    if n < WILCOXON_FROM:
        return None
    doubled = [round(2 * rank) for rank in ranks([-abs(value) for value in values])]
    positive = sum(rank for rank, value in zip(doubled, values, strict=True) if value > 0)
    if n > EXACT_UP_TO:
        sd = math.sqrt(sum(rank**2 for rank in doubled)) / 2
        return math.erfc(abs(positive - sum(doubled) / 2) / sd / math.sqrt(2))
    ways = [1]  # number of the 2^n signs that give each sum of positive ranks
    for rank in doubled:
        ways = [
            (ways[total] if total < len(ways) else 0) + (ways[total - rank] if total >= rank else 0)
            for total in range(len(ways) + rank)
        ]
    tail = min(sum(ways[: positive + 1]), sum(ways[positive:]))
    return float(min(1.0, 2 * tail / 2**n))


def holm(p: Sequence[Value]) -> list[Value]:
    """Correct the p of several tests for their number (Holm, 1979); None stays and does not count.

    With p < 0.05, all of them together call a difference real by mistake in at most 5 % of cases.
    """
    known = sorted((value, index) for index, value in enumerate(p) if value is not None)
    corrected: list[Value] = [None] * len(p)
    largest = 0.0
    for done, (value, index) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - done)))
        corrected[index] = largest
    return corrected


def ranks(values: Sequence[float]) -> list[float]:
    """Return ranks from 1, the highest value first; ties share the mean of their ranks."""
    counts = Counter(values)
    start, shared = 1, {}
    for value in sorted(counts, reverse=True):
        shared[value] = start + (counts[value] - 1) / 2
        start += counts[value]
    return [shared[value] for value in values]


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of k things over n blocks, 1 the best.

    `p`: Friedman's test that all are alike, None below two blocks or if all tie in every block.
    `critical_difference`: mean ranks at least this far apart differ at the 5 % level by Nemenyi's
    test, None below two blocks.
    """

    n: int
    mean_ranks: list[float]
    p: Value
    critical_difference: Value

    @property
    def enough(self) -> bool:
        """Return whether any outcome of n blocks could reach the critical difference."""
        needed = self.critical_difference
        return needed is not None and needed <= len(self.mean_ranks) - 1


def ranking(blocks: Sequence[Sequence[float]]) -> Ranking:
    """Rank k things inside every block, the highest value first, and compare their mean ranks.

    A block is the values of all k, in the same order. Friedman (1937) with the correction for ties,
    p by the chi-squared distribution, which is rough below ten blocks; Nemenyi as in Demsar,
    "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006.

    Raises `ValueError` for no blocks, fewer than two things, or blocks of several lengths.
    """
    k = len(blocks[0]) if blocks else 0
    if k < 2 or any(len(block) != k for block in blocks):
        raise ValueError("blocks must all have the same number of values, at least two")
    n = len(blocks)
    ranked = [ranks([round(value, 12) for value in block]) for block in blocks]
    means = [fmean(column) for column in zip(*ranked, strict=True)]
    if n == 1:
        return Ranking(n, means, None, None)
    ties = sum(count**3 - count for block in ranked for count in Counter(block).values())
    untied = 1 - ties / (n * k * (k * k - 1))
    statistic = 12 * n / (k * (k + 1)) * sum((mean - (k + 1) / 2) ** 2 for mean in means)
    p = chi2_p_value(statistic / untied, k - 1) if untied > 0 else None
    return Ranking(n, means, p, critical_difference(k, n))


def critical_difference(k: int, n: int) -> float:
    """Return Nemenyi's critical difference of k mean ranks over n blocks, at the 5 % level."""
    return studentized_range_quantile(k) * math.sqrt(k * (k + 1) / (12 * n))


def blocks_needed(k: int) -> int:
    """Return the fewest blocks over which two of k things can differ by Nemenyi's test."""
    return math.ceil(critical_difference(k, 1) ** 2 / (k - 1) ** 2)


def alike(mean_ranks: Sequence[float], difference: float) -> list[tuple[float, float]]:
    """Return the longest groups of mean ranks closer than the difference, as lowest and highest.

    Groups of one are left out, as are those inside another.
    """
    ordered = sorted(mean_ranks)
    groups: list[tuple[float, float]] = []
    for start, low in enumerate(ordered):
        members = [rank for rank in ordered[start:] if rank - low < difference]
        if len(members) > 1 and (not groups or members[-1] > groups[-1][1]):
            groups.append((low, members[-1]))
    return groups


def t_p_value(t: float, df: int) -> float:
    """Return the two-sided p of Student's t with df degrees of freedom."""
    return _incomplete_beta(df / 2, 0.5, df / (df + t * t))


@cache
def t_quantile(df: int) -> float:
    """Return Student's 0.975 quantile: a 95 % interval is this many standard errors each way."""
    return _solve_falling(lambda t: t_p_value(t, df), 0.05)


def chi2_p_value(x: float, df: int) -> float:
    """Return P(chi-squared > x), df degrees of freedom: Abramowitz and Stegun 26.4.4, 26.4.5."""
    half = x / 2
    start = 0.5 if df % 2 else 0.0
    powers = (start + i for i in range(df // 2))
    terms = (math.pow(half, power) / math.gamma(power + 1) for power in powers)
    return math.exp(-half) * sum(terms) + (math.erfc(math.sqrt(half)) if df % 2 else 0.0)


@cache
def studentized_range_quantile(k: int) -> float:
    """Return the 0.95 quantile of the range of k independent standard normal numbers."""
    normal = NormalDist()
    step = 0.05
    points = [index * step for index in range(-170, 171)]
    below = {point: normal.cdf(point) for point in points}

    def exceeds(q: float) -> float:
        """Return P(range > q): the largest lies at a point, all others within q below it."""
        total = sum(
            normal.pdf(point) * (below[point] - normal.cdf(point - q)) ** (k - 1)
            for point in points
        )
        return 1 - k * step * total

    return _solve_falling(exceeds, 0.05)


def _solve_falling(probability: Callable[[float], float], level: float) -> float:
    """Return the number above 0 at which a falling function reaches the level, by bisection."""
    low, high = 0.0, 1.0
    while probability(high) > level:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) > level else (low, middle)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function, by its continued fraction.

    Abramowitz and Stegun 26.5.8, evaluated by Lentz's method (1976).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges slowly there
        return 1 - _incomplete_beta(b, a, 1 - x)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x)) / a
    fraction = numerator = 1.0
    denominator = 0.0
    for index in range(1000):
        m = index // 2
        if index == 0:
            term = 1.0
        elif index % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator = 1 / _not_zero(1 + term * denominator)
        numerator = _not_zero(1 + term / numerator)
        fraction *= numerator * denominator
        if abs(1 - numerator * denominator) < 1e-15:
            break
    return front * (fraction - 1)


def _not_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
