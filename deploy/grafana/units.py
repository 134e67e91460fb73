"""Numbers as Grafana shows them, for the units that our panels have."""

import math

_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_AFTER = {"reqps": " req/s", "cps": " /s"}


def shown(value: float, unit: str) -> str:
    """A value with its unit; `unit` is Grafana's id."""
    if not math.isfinite(value):
        return str(value)
    if unit in ("s", "ms"):
        return _time(value if unit == "s" else value / 1000)
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit == "bytes":
        power = min(4, int(math.log(abs(value), 1024))) if abs(value) >= 1 else 0
        return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
    if unit == "sci" or (value and abs(value) < 1e-3):
        return f"{value:.2g}"
    if unit == "none":
        return f"{value:.4g}"
    size, letter = next(((s, letter) for s, letter in _SI if abs(value) >= s), (1.0, ""))
    return f"{value / size:.3g}{letter and ' '}{letter}{_AFTER.get(unit, '')}"


def _time(seconds: float) -> str:
    size, name = next(((s, n) for s, n in _TIMES if abs(seconds) >= s), (1.0, "s"))
    return f"{seconds / size:.3g} {name}"
