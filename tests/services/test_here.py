"""What a replica keeps for the routes that services share."""

import pytest

from services.serve import here


class Thing: ...


class Another(Thing): ...


def test_a_kind_is_kept_once_and_asked_for_by_its_class() -> None:
    assert here.look(Thing) is None
    with pytest.raises(RuntimeError, match="no Thing is kept in this process"):
        here.part(Thing)
    first, second, other = Thing(), Thing(), Another()
    for each in (first, second, other):
        here.keep(each)
    assert here.part(Thing) is second
    assert here.part(Another) is other
