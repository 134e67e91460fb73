"""Whether weights that lay elsewhere for a while are back as they were."""

from collections.abc import Mapping


class UnsoundWeightsError(RuntimeError):
    """They are not; the engine is not to be used any more."""


def compare_weights(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Compare the digests of an engine's weights, by name.

    Raises:
        UnsoundWeightsError: names what differs.
    """
    if different := sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name)):
        few = ", ".join(different[:3]) + (", ..." if len(different) > 3 else "")
        raise UnsoundWeightsError(f"after waking, {len(different)} of {len(before)} weights differ: {few}")
