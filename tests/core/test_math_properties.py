r"""Equal answers are equal in every notation, others in none, and what is cheap agrees with the algebra."""

from __future__ import annotations

from fractions import Fraction

import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rlad_core.tasks.math import algebra, equivalence
from rlad_core.tasks.math.estimate import surely_different
from rlad_core.tasks.math.notation import Unreadable, plain
from rlad_core.tasks.math.numbers import number
from rlad_core.tasks.math.verifier import equal

quick = settings(max_examples=200, deadline=None)
slow = settings(max_examples=60, deadline=None)
integers = st.integers(-(10**9), 10**9)
fractions = st.builds(Fraction, st.integers(-9999, 9999), st.integers(1, 999))


def accepted(gold: str, answer: str) -> bool:
    try:
        return equal(gold, answer)
    except Unreadable:
        return False


def written(value: Fraction) -> st.SearchStrategy[str]:
    """Notations of one number."""
    top, bottom = value.numerator, value.denominator
    sign, size = ("-" if top < 0 else ""), abs(top)
    forms = [f"{top}/{bottom}", f"\\frac{{{top}}}{{{bottom}}}", f"{sign}\\dfrac{{{size}}}{{{bottom}}}"]
    forms += [
        f"{sign}\\frac{{{size * 3}}}{{{bottom * 3}}}",
        f"$\\frac{{{top}}}{{{bottom}}}$",
        f"x = {top}/{bottom}",
    ]
    if bottom == 1:
        forms += [
            str(top),
            f"{top:,}",
            f"{top}.0",
            f"{top:,}.".replace(",", "{,}"),
            f"({top})",
            f"{top}\\text{{ cm}}",
        ]
    elif size > bottom:
        whole, rest = divmod(size, bottom)
        forms += [f"{sign}{whole}\\frac{{{rest}}}{{{bottom}}}", f"{sign}{whole} {rest}/{bottom}"]
    exact = next((places for places in range(1, 12) if 10**places % bottom == 0), None)
    if exact is not None:
        digits = f"{size * 10**exact // bottom:0{exact + 1}d}"
        forms += [f"{sign}{digits[:-exact]}.{digits[-exact:]}", f"{sign}{digits}\\times 10^{{-{exact}}}"]
        forms += [f"{sign}{digits}e-{exact}"]
    return st.sampled_from(forms)


@quick
@given(st.data(), fractions | st.builds(Fraction, integers))
def test_a_number_is_itself_in_every_notation(data: st.DataObject, value: Fraction) -> None:
    assert accepted(data.draw(written(value)), data.draw(written(value)))


@quick
@given(st.data(), fractions, fractions)
def test_two_numbers_are_different_in_every_notation(
    data: st.DataObject, one: Fraction, other: Fraction
) -> None:
    assume(one != other)
    assert not accepted(data.draw(written(one)), data.draw(written(other)))


@quick
@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6), st.integers(1, 12))
def test_no_rounding_makes_two_numbers_equal(whole: int, more: int, places: int) -> None:
    gold = f"{whole}.{'0' * places}1"
    assert not accepted(gold, f"{whole}.{'0' * places}1{more:07d}")
    assert not accepted(str(whole), gold)


@slow
@given(st.data(), fractions | st.builds(Fraction, integers))
def test_numbers_are_to_the_algebra_what_they_are_here(data: st.DataObject, value: Fraction) -> None:
    text = plain(data.draw(written(value)))
    found = number(text)
    if (
        found is not None
        and "\\times" not in text
        and "," not in text
        and "e" not in text
        and " " not in text
    ):
        read = algebra.read(text).doit()
        assert Fraction(int(read.p), int(read.q)) == found.value


UNITS = [("mm", 1), ("cm", 10), ("m", 1000), ("km", 10**6)]


@quick
@given(
    st.integers(1, 10**6), st.sampled_from(UNITS), st.sampled_from(UNITS), st.sampled_from(["", "^2", "^3"])
)
def test_lengths_are_converted_exactly(
    size: int, one: tuple[str, int], other: tuple[str, int], power: str
) -> None:
    factor = Fraction(one[1], other[1]) ** int(power[1:] or 1)
    value = size * factor
    gold = f"{size}\\text{{ {one[0]}}}{power}"
    assert accepted(gold, f"\\frac{{{value.numerator}}}{{{value.denominator}}}\\text{{ {other[0]}}}{power}")
    assert accepted(gold, f"{size} {other[0]}{power}") is (one == other)


@quick
@given(st.lists(st.integers(-99, 99), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_a_list_has_no_order_and_a_tuple_has_one(items: list[int], chance: object) -> None:
    mixed = list(items)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    assert accepted(", ".join(map(str, items)), ", ".join(map(str, mixed)))
    assert accepted(f"\\{{{', '.join(map(str, items))}\\}}", ", ".join(map(str, mixed)))
    assert accepted(f"({', '.join(map(str, items))})", f"({','.join(map(str, mixed))})") is (items == mixed)
    assert not accepted(", ".join(map(str, items)), ", ".join(map(str, [*mixed[1:], mixed[0] + 1])))


def _expressions() -> st.SearchStrategy[str]:
    leaf = st.integers(1, 20).map(str) | st.sampled_from(["x", "y", "\\pi", "\\sqrt{2}", "\\sqrt{3}", "0.5"])
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda two: f"{two[0]} + {two[1]}"),
            st.tuples(inner, inner).map(lambda two: f"{two[0]} - ({two[1]})"),
            st.tuples(inner, inner).map(lambda two: f"({two[0]})({two[1]})"),
            st.tuples(inner, inner).map(lambda two: f"\\frac{{{two[0]}}}{{{two[1]}}}"),
            inner.map(lambda one: f"({one})^2"),
            inner.map(lambda one: f"3({one})"),
        ),
        max_leaves=4,
    )


@slow
@given(_expressions(), _expressions())
def test_an_estimate_refuses_nothing_that_the_algebra_accepts(one: str, other: str) -> None:
    one, other = plain(one), plain(other)
    assert not surely_different(one, one)
    if surely_different(one, other):
        assert not equivalence.equal(one, other)


@slow
@given(_expressions(), st.integers(1, 9))
def test_an_expression_is_itself_and_not_another(text: str, more: int) -> None:
    assert not accepted(text, f"{text} + {more}")
    if not algebra.read(plain(text)).doit().has(sympy.zoo, sympy.nan):  # it divides by zero
        assert accepted(text, f"{more} + {text} - {more}")


WORDS = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=8)


@quick
@given(WORDS, WORDS)
def test_words_in_capitals_are_no_products(one: str, other: str) -> None:
    assert accepted(one, f"\\text{{{other}}}") is (one == other)
    assert accepted(one, other) is (one == other)
