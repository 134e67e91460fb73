"""The people of the puzzles. Two pools, without a name in common.

Both are those of the published rows: `COMMON`, and `UNCOMMON`, rare given names for the test whether a model
solves a puzzle or remembers it. Both hold names that contain one another (Ella/Isabella, Jack/Jackson,
Liam/William; Zephyr/Zephyrus/Zephyrine): an answer's names must never be searched for as substrings.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COMMON: tuple[str, ...] = _words("""
    Abigail Aiden Alexander Amelia Aria Aurora Ava Avery Benjamin Charlotte Chloe Daniel David Elizabeth Ella
    Emily Emma Ethan Evelyn Grace Harper Henry Isabella Jack Jackson Jacob James Joseph Liam Lily Logan Lucas
    Luke Mason Matthew Mia Michael Noah Oliver Olivia Owen Penelope Riley Samuel Scarlett Sebastian Sofia
    Sophia Victoria William Zoey
""")

UNCOMMON: tuple[str, ...] = _words("""
    Aeronwen Amaryllis Balthazar Caius Calliope Caspian Cillian Cosima Cyprian Elodie Elowen Eulalia Eurydice
    Evander Evanthe Florian Forsythe Ianthe Ignatius Isolde Lazarus Leander Leocadio Lysander Melisande
    Nephele Oberon Oceane Ondine Osiris Ottoline Percival Perdita Peregrine Quillan Saffron Sylvester
    Thaddeus Theron Thorsten Vesper Xanthe Xiomara Ysolde Zenobia Zephyr Zephyrine Zephyrus Zinnia Zora
""")

POOLS: dict[str, tuple[str, ...]] = {"common": COMMON, "uncommon": UNCOMMON}


def pool(name: str) -> tuple[str, ...]:
    """The names of a pool.

    Raises:
        ValueError: there is no such pool.
    """
    if name not in POOLS:
        raise ValueError(f"name pool {name!r} is unknown; write one of {', '.join(POOLS)}")
    return POOLS[name]
