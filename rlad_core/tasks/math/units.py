"""Units behind a number: which they are, and how many of one are in another.

A unit that is known has a dimension and a factor. Any other noun is compared as a word. A unit is read over
where only one of the two answers has one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Unit:
    """A unit of measure, or a noun.

    dimension: powers of base dimensions, sorted; () for nouns.
    factor: how many base units it is.
    noun: as compared, where it is none that is known.
    """

    dimension: tuple[tuple[str, int], ...] = ()
    factor: Fraction = Fraction(1)
    noun: str = ""


def _table(text: str) -> dict[str, tuple[str, Fraction]]:
    table = {}
    for line in text.strip().splitlines():
        dimension, factor, names = line.split(maxsplit=2)
        for name in names.split(","):
            table[name.strip()] = (dimension, Fraction(factor))
    return table


_KNOWN = _table(
    """
    length 1 m, meter, metre
    length 1/100 cm, centimeter, centimetre
    length 1/1000 mm, millimeter, millimetre
    length 1/10 dm, decimeter, decimetre
    length 1000 km, kilometer, kilometre
    length 1/1000000 microm, micrometer, micrometre, micron
    length 0.0254 in, inch, inche
    length 0.3048 ft, foot, feet
    length 0.9144 yd, yard
    length 1609.344 mi, mile
    mass 1 kg, kilogram, kilo
    mass 1/1000 g, gram, gm
    mass 1/1000000 mg, milligram
    mass 1/1000000000 microg, microgram
    mass 1000 ton, tonne
    mass 0.45359237 lb, pound, lbs
    mass 0.028349523125 oz, ounce
    time 1 s, sec, second
    time 1/1000 ms, millisecond
    time 1/1000000 micros, microsecond
    time 60 min, minute
    time 3600 h, hr, hour
    time 86400 day
    time 604800 week
    month 1 month
    month 12 year, yr
    volume 1 l, L, liter, litre
    volume 1/1000 ml, mL, milliliter, millilitre
    gallon 1 gallon, gal
    gallon 1/4 quart
    gallon 1/8 pint
    dollar 1 dollar, usd, USD, $, buck
    dollar 1/100 cent, ¢
    euro 1 euro, €, EUR
    sterling 1 £, GBP
    rupee 1 rupee, rs, Rs, ₹
    yuan 1 yuan, ¥, RMB
    degree 1 degree, ^\\circ, deg
    celsius 1 ^\\circC, °C, celsius
    fahrenheit 1 ^\\circF, °F, fahrenheit
    radian 1 radian, rad
    force 1 N, newton
    energy 1 J, joule
    energy 1000 kJ, kilojoule
    power 1 W, watt
    power 1000 kW, kilowatt
    pressure 1 Pa, pascal
    pressure 1000 kPa
    charge 1 C, coulomb
    current 1 A, ampere, amp
    voltage 1 V, volt
    resistance 1 ohm, \\Omega
    resistance 1000 kohm, kiloohm
    resistance 1000000 Mohm, megaohm
    frequency 1 Hz, hertz
    amount 1 mol, mole
    temperature 1 K, kelvin
    """
)
DEGREE, RADIAN = (("degree", 1),), (("radian", 1),)
"""Dimensions of angles."""
_SHORT = {
    "mph": ("mi", "h"),
    "kmph": ("km", "h"),
    "kph": ("km", "h"),
    "kmh": ("km", "h"),
    "fps": ("ft", "s"),
}
_SQUARE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_NEUTRAL = {"unit", "units"}
_PIECE = re.compile(
    r"(?P<divided>/|(?<![A-Za-z])per(?![A-Za-z]))|(?P<name>\^\\circ\s*[CF]?(?![A-Za-z])|[A-Za-z$€£¥₹¢]+|\\Omega)\.?(?:\^?\{?(?P<power>-?[1-4])\}?)?|\\cdot|\*|\s"
)
_LITTLE = {
    "the",
    "of",
    "a",
    "an",
    "each",
    "in",
    "total",
    "all",
    "more",
    "away",
    "long",
    "old",
    "about",
    "exactly",
}


_TEMPERATURE = re.compile(
    r"(?:\^\\circ\s*|degrees?\s+)(celsius|centigrade|fahrenheit|[CF](?![A-Za-z]))", re.IGNORECASE
)


def unit(text: str) -> Unit | None:
    """The unit that a text names; None: no word in it that says what is counted (``5 units``)."""
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).replace("{", "").replace("}", "").strip(" .")
    if found := _TEMPERATURE.fullmatch(text):
        text = "fahrenheit" if found[1][0] in "fF" else "celsius"
    return _measure(text) or _noun(text)


def is_measure(text: str) -> bool:
    """Whether a text is a unit that is known, and no noun."""
    return _measure(text.replace("²", "^2").replace("³", "^3")) is not None


def same_words(one: Unit, other: Unit) -> bool:
    """Whether two nouns count the same: the last word, or all of the shorter, is the same."""
    first, second = one.noun.split(), other.noun.split()
    return first[-1:] == second[-1:] or set(first) <= set(second) or set(second) <= set(first)


def _measure(text: str) -> Unit | None:
    powers: dict[str, int] = {}
    factor, last_factor, sign, next_power, position = Fraction(1), Fraction(1), 1, 1, 0
    while position < len(text):
        piece = _PIECE.match(text, position)
        if piece is None:
            return None
        position = piece.end()
        if piece["divided"]:
            sign = -1
        if not piece["name"]:
            continue
        name = piece["name"].replace(" ", "")
        if name.lower() in _SQUARE:
            next_power = _SQUARE[name.lower()]
            continue
        if name.lower() in ("squared", "cubed") and powers:
            last = list(powers)[-1]
            more = (1 if name.lower() == "squared" else 2) * (1 if powers[last] > 0 else -1)
            factor *= last_factor**more
            powers[last] += more
            continue
        parts = _SHORT.get(name.lower(), (name,))
        for place, part in enumerate(parts):
            known = _known(part)
            if known is None:
                return None
            last_factor = known[1]
            power = (
                (int(piece["power"] or 1) if len(parts) == 1 else 1)
                * next_power
                * sign
                * (-1 if place else 1)
            )
            powers[known[0]] = powers.get(known[0], 0) + power
            factor *= known[1] ** power
        next_power = 1
    if not powers:
        return None
    if "volume" in powers and powers["volume"] != 0:  # a litre is a cubic decimetre
        power = powers.pop("volume")
        powers["length"] = powers.get("length", 0) + 3 * power
        factor /= Fraction(1000) ** power
    dimension = tuple(sorted((name, power) for name, power in powers.items() if power))
    return Unit(dimension, factor) if dimension else None


def _known(name: str) -> tuple[str, Fraction] | None:
    if name in _KNOWN:
        return _KNOWN[name]
    if len(name) == 1:
        return None
    lower = name.lower()
    for word in (lower, lower.removesuffix("s"), lower.removesuffix("es")):
        if word in _KNOWN and len(word) > 1:
            return _KNOWN[word]
    return None


def _noun(text: str) -> Unit | None:
    pieces = re.findall(r"[a-z]+|\d+" if "mod" in text else r"[a-z]+", text.lower())
    words = [singular(word) for word in pieces]
    words = [word for word in words if word not in _LITTLE]
    if not words or words[-1] in _NEUTRAL:
        return None
    return Unit(noun=" ".join(words))


def singular(word: str) -> str:
    """A noun without its plural ending, well enough to compare two."""
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
