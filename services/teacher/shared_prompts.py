"""A group's prompt sent once, and read once.

JSON: the request's ``prompts``, which sequences name by ``prompt_id``. Arrow: a row whose prompt is null has
that of the row before it.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core import schema
from rlad_core.client.errors import InvalidRequestError
from rlad_core.client.forms import TeacherLimits
from rlad_core.schema.columns import single_chunk
from services.serve.http.json_forms import invalid
from services.serve.http.texts import PromptIn, Reader, check_one_given, own_ids

PROMPTS = ("prompt_token_ids", "prompt", "messages")
_COLUMN = "prompt_token_ids"


class SharedPrompt(PromptIn, forbid_unknown_fields=True, kw_only=True):
    """A prompt that several sequences name."""

    def __post_init__(self) -> None:
        check_one_given(self, *PROMPTS)


class SharedPrompts:
    """Those of a request.

    Raises:
        ProblemError: 422, an id occurs twice.
    """

    def __init__(self, prompts: list[SharedPrompt]) -> None:
        ids = own_ids([prompt.id for prompt in prompts])
        self._places: dict[str, int] = {name: place for place, name in enumerate(ids)}
        self._prompts = prompts
        self._least: dict[str, int] = {}
        self._found: dict[str, npt.NDArray[np.int32]] = {}

    def but(self, named: Iterable[object]) -> set[str]:
        """Names of those that are not among `named`."""
        return self._places.keys() - set(named)

    def prompt(self, name: str) -> SharedPrompt:
        """The one of a name that there is."""
        return self._prompts[self._places[name]]

    def least(self, name: str, reader: Reader) -> int:
        """See `Reader.least_tokens`; 0 where there is no such prompt."""
        if name in self._places and name not in self._least:
            prompt: Any = self.prompt(name)
            self._least[name] = reader.least_tokens(*(getattr(prompt, each) for each in PROMPTS))
        return self._least.get(name, 0)

    def token_ids(self, name: str, where: str, reader: Reader) -> npt.NDArray[np.int32]:
        """A prompt's token ids: int32 [tokens].

        Args:
            where: the sequence that names it, for the error.

        Raises:
            ProblemError: 422, there is no such prompt, or it cannot be read.
        """
        if name not in self._places:
            raise invalid(f"{where}.prompt_id", f"{name[:100]!r} is the id of none of `prompts`")
        if name not in self._found:
            self._found[name] = reader.prompt(self.prompt(name), f"prompts[{self._places[name]}]")
        return self._found[name]


def filled(table: pa.Table, limits: TeacherLimits) -> pa.Table:
    """A SEQUENCES table with a prompt in each row.

    Args:
        limits: looked at before prompts are copied.

    Raises:
        InvalidRequestError: there is no row before a null prompt.
        LimitError: all of it would be more tokens than a request may have.
    """
    place = table.schema.get_field_index(_COLUMN)
    if place < 0 or not table.column(place).null_count or not pa.types.is_list(table.column(place).type):
        return table  # the schema's own check says what is wrong with it, if anything is
    prompts = single_chunk(table.column(place))
    is_there = prompts.is_valid().to_numpy(zero_copy_only=False)
    source = np.maximum.accumulate(np.where(is_there, np.arange(table.num_rows), -1))
    if source[0] < 0:
        raise InvalidRequestError(f"{_COLUMN} of the first row is null, and there is no row before it")
    limits.check(table.num_rows, int(schema.lengths(prompts)[source].sum()))
    field = pa.field(_COLUMN, prompts.type, nullable=False)
    return table.set_column(place, field, prompts.take(pa.array(source)))
