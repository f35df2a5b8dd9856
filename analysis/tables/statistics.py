"""Is a difference real: paired comparisons over blocks, ranks over blocks; pure, on plain lists.

Written out rather than taken from SciPy, whose import costs more than a table; the tests hold every
number against SciPy's. Where the data do not allow an answer, the answer is None.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, fmean, stdev

SIGNIFICANT = 0.05
WILCOXON_FROM = 6  # with five blocks or fewer its p cannot go below 0.05
EXACT_UP_TO = 50  # differences whose 2^n signs are counted; the normal approximation beyond

Value = float | None


@dataclass(frozen=True)
class Paired:
    """Two things measured on the same blocks; all but `n`, `effect` and the p in their unit.

    `n` counts the blocks with both values. One block has no spread: `sd` and what needs it are
    None. Where every block has the same difference, a test has nothing to go by: the interval,
    the effect and both p are None.
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
    """Compare a with b, block by block; a block where either is None or NaN is left out.

    Raises `ValueError` where the lists differ in length.
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
    sd = stdev(differences)
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


def wilcoxon(differences: Sequence[float]) -> Value:
    """Two-sided p of the signed-rank test (Wilcoxon, 1945), zeros left out, ties at mean ranks.

    Exact given the ranks up to `EXACT_UP_TO` differences, then by the normal distribution without
    continuity correction. None where fewer than `WILCOXON_FROM` differences are not zero.
    """
    # Differences of accuracies that should tie differ in the last bits.
    values = [round(value, 12) for value in differences if round(value, 12)]
    n = len(values)
    if n < WILCOXON_FROM:
        return None
    doubled = [round(2 * rank) for rank in ranks([-abs(value) for value in values])]
    positive = sum(rank for rank, value in zip(doubled, values, strict=True) if value > 0)
    if n > EXACT_UP_TO:
        sd = math.sqrt(sum(rank**2 for rank in doubled)) / 2
        return math.erfc(abs(positive - sum(doubled) / 2) / sd / math.sqrt(2))
    ways = [1]  # how many of the 2^n signs give each sum of positive ranks
    for rank in doubled:
        ways = [
            (ways[total] if total < len(ways) else 0) + (ways[total - rank] if total >= rank else 0)
            for total in range(len(ways) + rank)
        ]
    tail = min(sum(ways[: positive + 1]), sum(ways[positive:]))
    return float(min(1.0, 2 * tail / 2**n))


def holm(p: Sequence[Value]) -> list[Value]:
    """The p of several tests, corrected for their number (Holm, 1979); None stays and counts not.

    Together they wrongly call something real in at most 5 % of cases, with p < 0.05.
    """
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    corrected: list[Value] = [None] * len(p)
    largest = 0.0
    for done, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - done)))
        corrected[place] = largest
    return corrected


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, the highest value first; ties share the mean of their ranks."""
    counts = Counter(values)
    start, shared = 1, {}
    for value in sorted(counts, reverse=True):
        shared[value] = start + (counts[value] - 1) / 2
        start += counts[value]
    return [shared[value] for value in values]


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of k things over n blocks, 1 the best.

    `p`: Friedman's test that all are alike, None below two blocks or where all tie everywhere.
    `critical_difference`: mean ranks at least this far apart differ at the 5 % level by Nemenyi's
    test, None below two blocks. `enough`: whether any outcome of n blocks could reach it.
    """

    n: int
    mean_ranks: list[float]
    p: Value
    critical_difference: Value

    @property
    def enough(self) -> bool:
        """Whether the blocks are enough for any two to be told apart."""
        needed = self.critical_difference
        return needed is not None and needed <= len(self.mean_ranks) - 1


def ranking(blocks: Sequence[Sequence[float]]) -> Ranking:
    """Rank k things inside every block, the highest value first, and compare their mean ranks.

    A block is the values of all k, in the same order. Friedman (1937) with the correction for ties,
    p by the chi-squared distribution, which is rough below ten blocks; Nemenyi as in Demsar,
    "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006.

    Raises `ValueError` where there are no blocks, fewer than two things, or blocks of several
    lengths.
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
    """Nemenyi's critical difference of mean ranks of k things over n blocks, at the 5 % level."""
    return studentized_range_quantile(k) * math.sqrt(k * (k + 1) / (12 * n))


def blocks_needed(k: int) -> int:
    """The fewest blocks over which two of k things can differ by Nemenyi's test."""
    return math.ceil(critical_difference(k, 1) ** 2 / (k - 1) ** 2)


def alike(mean_ranks: Sequence[float], difference: float) -> list[tuple[float, float]]:
    """The longest stretches of mean ranks, as lowest and highest, closer than the difference.

    Stretches of a single one are left out, as are those inside another.
    """
    ordered = sorted(mean_ranks)
    found: list[tuple[float, float]] = []
    for start, low in enumerate(ordered):
        members = [rank for rank in ordered[start:] if rank - low < difference]
        if len(members) > 1 and (not found or members[-1] > found[-1][1]):
            found.append((low, members[-1]))
    return found


def t_p_value(t: float, df: int) -> float:
    """Two-sided p of Student's t with df degrees of freedom."""
    return _incomplete_beta(df / 2, 0.5, df / (df + t * t))


@cache
def t_quantile(df: int) -> float:
    """The 0.975 quantile of Student's t: a 95 % interval is this many standard errors each way."""
    return _falls_to(lambda t: t_p_value(t, df), 0.05)


def chi2_p_value(x: float, df: int) -> float:
    """P(chi-squared > x) with df degrees of freedom: Abramowitz and Stegun 26.4.4 and 26.4.5."""
    half = x / 2
    start = 0.5 if df % 2 else 0.0
    powers = (start + i for i in range(df // 2))
    terms = (math.pow(half, power) / math.gamma(power + 1) for power in powers)
    return math.exp(-half) * sum(terms) + (math.erfc(math.sqrt(half)) if df % 2 else 0.0)


@cache
def studentized_range_quantile(k: int) -> float:
    """The 0.95 quantile of the range of k independent standard normal numbers."""
    normal = NormalDist()
    step = 0.05
    points = [place * step for place in range(-170, 171)]
    below = {point: normal.cdf(point) for point in points}

    def exceeds(q: float) -> float:
        """P(range > q): the largest lies at a point, all others within q below it."""
        total = sum(
            normal.pdf(point) * (below[point] - normal.cdf(point - q)) ** (k - 1)
            for point in points
        )
        return 1 - k * step * total

    return _falls_to(exceeds, 0.05)


def _falls_to(probability: Callable[[float], float], level: float) -> float:
    """Where a falling function of a number above 0 reaches the level, by halving."""
    low, high = 0.0, 1.0
    while probability(high) > level:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) > level else (low, middle)
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction.

    Abramowitz and Stegun 26.5.8, evaluated as Lentz (1976) does.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly
        return 1 - _incomplete_beta(b, a, 1 - x)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x)) / a
    fraction = numerator = 1.0
    denominator = 0.0
    for place in range(1000):
        m = place // 2
        if place == 0:
            term = 1.0
        elif place % 2:
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
