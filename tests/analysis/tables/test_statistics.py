"""Tests, intervals and ranks against hand computations and SciPy."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import pytest
from scipy import stats

from analysis.tables import statistics
from analysis.tables.statistics import Paired, holm, paired, ranking, ranks, wilcoxon


def numbers(n, mean=0.0, seed=1):
    source = random.Random(seed)
    return [source.gauss(mean, 1) for _ in range(n)]


def test_a_paired_comparison_by_hand():
    comparison = paired([0.90, 0.92, 0.97], [0.89, 0.90, 0.94])
    assert comparison.n == 3
    assert comparison.mean_a == pytest.approx(0.93)
    assert comparison.mean_b == pytest.approx(0.91)
    assert comparison.difference == pytest.approx(0.02)  # of 0.01, 0.02 and 0.03
    assert comparison.sd == pytest.approx(0.01)
    half = 4.302653 * 0.01 / math.sqrt(3)  # the 0.975 quantile of t with 2 degrees of freedom
    assert (comparison.low, comparison.high) == pytest.approx((0.02 - half, 0.02 + half), abs=1e-8)
    assert comparison.effect == pytest.approx(2)
    # With 2 degrees of freedom P(|T| > t) = 1 - t / sqrt(2 + t^2), here t = 2 sqrt(3).
    assert comparison.p == pytest.approx(1 - math.sqrt(12 / 14))
    assert comparison.wilcoxon_p is None


@pytest.mark.parametrize("n", [2, 3, 5, 12, 40])
def test_a_paired_comparison_is_scipys(n):
    a, b = numbers(n, 0.4, seed=n), numbers(n, 0.1, seed=n + 100)
    comparison, scipy_result = paired(a, b), stats.ttest_rel(a, b)
    interval = scipy_result.confidence_interval(0.95)
    assert comparison.p == pytest.approx(scipy_result.pvalue, rel=1e-9)
    assert (comparison.low, comparison.high) == pytest.approx(
        (interval.low, interval.high), rel=1e-8
    )
    if n >= 6:
        exact = stats.wilcoxon(a, b, method="exact").pvalue
        assert comparison.wilcoxon_p == pytest.approx(exact, rel=1e-12)


def test_too_little_is_none_and_not_a_number():
    nothing = Paired(0)
    assert paired([], []) == paired([None, 0.5], [0.5, math.nan]) == nothing
    one = paired([0.9, None], [0.8, 0.7])
    assert (one.n, one.mean_a, one.mean_b) == (1, 0.9, 0.8)
    assert one.difference == pytest.approx(0.1)
    assert one.sd is one.low is one.high is one.effect is one.p is one.wilcoxon_p is None
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        paired([0.9, 0.8], [0.9])


@pytest.mark.parametrize(("shift", "difference"), [(0.0, 0.0), (0.02, 0.02)])
def test_differences_without_spread_are_not_tested(shift, difference):
    values = [number / 70 for number in range(1, 60, 4)]  # with rounding in the last bits
    comparison = paired([value + shift for value in values], values)
    assert comparison.difference == pytest.approx(difference, abs=1e-15)
    assert (comparison.difference == 0) == (shift == 0)
    assert comparison.sd == 0
    assert (
        comparison.low
        is comparison.high
        is comparison.effect
        is comparison.p
        is comparison.wilcoxon_p
        is None
    )


def test_the_signed_rank_test_with_ties_and_zeros_by_hand():
    # Ranks of 1, 1, 1, 2, 3, 4: 2, 2, 2, 4, 5, 6; the one negative has rank 2. Of 64 signs four
    # give a sum of 2 or less: none negative, or one of the three of rank 2.
    assert wilcoxon([1, -1, 1, 2, 3, 4, 0, 0]) == pytest.approx(2 * 4 / 64)
    assert wilcoxon([-1, 1, -1, -2, -3, -4, 0, 0]) == pytest.approx(2 * 4 / 64)
    assert wilcoxon([1, 2, 3, 4, 5, 6]) == pytest.approx(2 / 64)
    assert wilcoxon([1, 2, 3, 4, 5, 0]) is None


def test_differences_that_tie_but_for_rounding_tie():
    noisy = [0.1 + 0.2 - 0.3 + value for value in (0.1, -0.1, 0.1, 0.2, 0.3, 0.4)]
    assert wilcoxon(noisy) == wilcoxon([1, -1, 1, 2, 3, 4])


def test_many_signed_ranks_are_scipys_normal_approximation():
    values = [round(value, 1) or 0.1 for value in numbers(120, 0.2)]
    scipy_result = stats.wilcoxon(values, correction=False, method="asymptotic").pvalue
    assert wilcoxon(values) == pytest.approx(scipy_result, rel=1e-9)


def test_holms_correction_by_hand():
    # Holm: 0.01 x 4, 0.02 x 3, 0.022 x 2 which may not fall below the one before, 0.5 x 1.
    assert holm([0.5, 0.01, None, 0.022, 0.02]) == [0.5, 0.04, None, 0.06, 0.06]
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([None]) == [None]


def test_ranks_share_ties():
    assert ranks([0.3, 0.9, 0.5, 0.9, 0.1]) == [4, 1.5, 3, 1.5, 5]


@pytest.mark.parametrize("ties", [False, True])
def test_friedmans_test_is_scipys(ties):
    source = random.Random(3)
    blocks = [
        [source.randint(1, 3) if ties else source.random() for _ in range(4)] for _ in range(9)
    ]
    ranks = ranking(blocks)
    scipy_result = stats.friedmanchisquare(*zip(*blocks, strict=True))
    assert ranks.p == pytest.approx(scipy_result.pvalue, rel=1e-9)
    assert sum(ranks.mean_ranks) == pytest.approx(10)


def test_the_critical_difference_is_demsars():
    # Demsar, 2006, section 3.2.2: four classifiers over fourteen data sets, and its Table 5 (a).
    assert statistics.critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    table = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102}
    for k, q in table.items():
        quantile = statistics.studentized_range_quantile(k) / math.sqrt(2)
        assert quantile == pytest.approx(q, abs=1e-3)
    scipy_result = stats.studentized_range.ppf(0.95, 12, math.inf)
    assert statistics.studentized_range_quantile(12) == pytest.approx(scipy_result, rel=1e-8)


def test_few_blocks_say_so():
    one = ranking([[0.9, 0.8, 0.7]])
    assert (one.mean_ranks, one.p, one.critical_difference) == ([1, 2, 3], None, None)
    assert not one.enough
    assert not ranking([[0.9, 0.8]] * 3).enough
    assert ranking([[0.9, 0.8]] * 4).enough
    assert (statistics.blocks_needed(2), statistics.blocks_needed(3)) == (4, 3)


def test_what_ties_everywhere_has_no_p():
    ranks = ranking([[0.1 + 0.2, 0.3], [0.5, 0.5]])
    assert (ranks.mean_ranks, ranks.p) == ([1.5, 1.5], None)


@pytest.mark.parametrize("blocks", [[], [[0.9]], [[0.9, 0.8], [0.9]]])
def test_blocks_of_unequal_length_are_refused(blocks):
    with pytest.raises(ValueError, match="same number of values, at least two"):
        ranking(blocks)


def test_stretches_that_are_alike_are_the_longest():
    groups = statistics.alike([3.2, 1.0, 1.8, 2.4, 5.0], 1.5)
    assert groups == [(1.0, 2.4), (1.8, 3.2)]
    assert statistics.alike([1.0, 2.0], 1.0) == []  # at the difference they differ


@pytest.mark.parametrize("df", [1, 2, 3, 10, 200])
def test_students_t_is_scipys(df):
    assert statistics.t_quantile(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-8)
    for t in (0.0, 0.3, 1.0, 2.5, 12.0, 80.0):
        assert statistics.t_p_value(-t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-9)


@pytest.mark.parametrize("df", range(1, 9))
def test_chi_squared_is_scipys(df):
    for x in (0.0, 0.1, 3.0, 20.0, 60.0):
        assert statistics.chi2_p_value(x, df) == pytest.approx(stats.chi2.sf(x, df), rel=1e-9)


@pytest.mark.slow
def test_no_table_waits_for_scipy(tiny):
    code = (
        "import sys; from analysis import connect, make_table; connection = connect(sys.argv[1]);"
        "[make_table(connection, name) for name in ('comparison', 'paired', 'ranking')];"
        "print([m for m in ('scipy', 'numpy', 'altair') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tiny)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
