"""The people of the puzzles. Two pools, without a name in common.

`COMMON` are the names of the published rows. `UNCOMMON` are rare given names for the test whether a model
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
    Alaric Anselm Balthazar Bronwen Calliope Caspian Cosima Cressida Dagny Demelza Eirlys Elowen Endellion
    Eurydice Evander Faustina Gisela Hesper Ianthe Ignatius Isolde Jocasta Kerensa Lazarus Leander Lysander
    Melisande Mirabel Nerys Oberon Octavian Ottoline Percival Peregrine Quillan Rosamund Seraphine Sunniva
    Tamsin Thaddeus Theodora Ulric Vesper Wilhelmina Xanthe Xiomara Ysolde Zenobia Zephyr Zephyrine Zephyrus
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
