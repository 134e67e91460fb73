"""A group's prompt sent once, and read once.

JSON: the request's ``prompts``, which sequences name by ``prompt_id``. Arrow: a row whose prompt is null has
that of the row before it.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from msgspec import Raw

from rlad_core import schema
from rlad_core.client.errors import RowError
from rlad_core.client.forms import TeacherLimits
from rlad_core.schema.columns import single_chunk
from services.serve.http.elements import Elements, OwnIds
from services.serve.http.json_forms import invalid
from services.serve.http.texts import PromptIn, Reader, check_one_given, letters_of
from services.serve.http.token_columns import TokenColumn

PROMPTS = ("prompt_token_ids", "prompt", "messages")
_COLUMN = "prompt_token_ids"


class SharedPrompt(PromptIn, forbid_unknown_fields=True, kw_only=True):
    """A prompt that several sequences name."""

    def __post_init__(self) -> None:
        check_one_given(self, *PROMPTS)


class SharedPrompts:
    """Those of a request.

    Args:
        prompts: what came.
        reader: of token ids and texts.

    Raises:
        ProblemError: 422, an id occurs twice, one is not of the form, or has no such token ids.
    """

    def __init__(self, prompts: Elements[SharedPrompt], reader: Reader) -> None:
        ids = OwnIds("prompts")
        self.tokens = TokenColumn(len(prompts))
        """Their token ids; of those that came as text once they are read."""
        least, self._letters = np.empty(len(prompts), np.int64), np.zeros(len(prompts), np.int64)
        for place, prompt in enumerate(prompts):
            ids.add(prompt.id)
            if isinstance(prompt.prompt_token_ids, Raw):
                self.tokens[place] = reader.prompt(prompt, f"prompts[{place}]")
                least[place] = self.tokens.sizes[place]
            else:
                least[place] = reader.least_tokens(prompt.prompt, prompt.messages)
                self._letters[place] = letters_of(prompt.prompt, prompt.messages)
        self._places: dict[str, int] = {name: place for place, name in enumerate(ids.packed().to_pylist())}
        self._prompts, self._reader = prompts, reader
        self.least = least
        """See `Reader.least_tokens`, of each: int64 [prompts]."""
        self.texts = self.tokens.missing
        """Which came as text: bool [prompts]."""
        self.openings = [""] * len(prompts)
        """What each opens of the model's turn, once it is read."""

    def __len__(self) -> int:
        return len(self._prompts)

    def place(self, name: str, where: str) -> int:
        """Which one has a name.

        Args:
            where: the sequence that names it, for the error.

        Raises:
            ProblemError: 422, there is no such prompt.
        """
        if (place := self._places.get(name)) is None:
            raise invalid(f"{where}.prompt_id", f"{name[:100]!r} is the id of none of `prompts`")
        return place

    def read_texts(self) -> Iterator[tuple[int, int]]:
        """Read those that came as text; of each prompt its place, and how many tokens it has.

        Raises:
            ProblemError: 422, one cannot be read.
        """
        for place, prompt in self._prompts.first(self._reader.may_be_too_long(self._letters)):
            if place not in self.tokens:
                read = self._reader.prompt_and_opening(prompt, f"prompts[{place}]")
                self.tokens[place], self.openings[place] = read
            yield place, int(self.tokens.sizes[place])


def filled(table: pa.Table, limits: TeacherLimits) -> pa.Table:
    """A SEQUENCES table with a prompt in each row.

    Args:
        limits: looked at before prompts are copied.

    Raises:
        RowError: there is no row before a null prompt.
        LimitError: all of it would be more tokens than a request may have.
    """
    place = table.schema.get_field_index(_COLUMN)
    if place < 0 or not table.column(place).null_count or not pa.types.is_list(table.column(place).type):
        return table  # the schema's own check says what is wrong with it, if anything is
    prompts = single_chunk(table.column(place))
    is_there = prompts.is_valid().to_numpy(zero_copy_only=False)
    source = np.maximum.accumulate(np.where(is_there, np.arange(table.num_rows), -1))
    if source[0] < 0:
        raise RowError("is null, and there is no row before it", "sequences", 0, _COLUMN)
    limits.check(table.num_rows, int(schema.lengths(prompts)[source].sum()))
    field = pa.field(_COLUMN, prompts.type, nullable=False)
    return table.set_column(place, field, prompts.take(pa.array(source)))
