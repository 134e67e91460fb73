"""What a replica's scores are made with, which every answer says: engine, weights, tokenizer, precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from rlad_core import schema
from rlad_core.client.details import Details
from rlad_core.client.made_with import MadeWith, marked
from rlad_core.language_model.chat import OWN
from services.serve.asked_once import AskedOnce
from services.teacher.scoring.interface import SleepingEngine
from services.teacher.settings import TeacherArgs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_RESTS = 9.0
"""Times as long as a hash of the weights takes it serves who asks next. Of large ones it takes seconds, which
are nobody's turn: so whoever asks again and again has a tenth of the engine's time with it.
"""


class Making:
    """Of one replica.

    Args:
        engine: that scores.
        args: of the service.
        tokenizer: the model's.
        fingerprint: of that.
    """

    def __init__(
        self, engine: SleepingEngine, args: TeacherArgs, tokenizer: PreTrainedTokenizerBase, fingerprint: str
    ) -> None:
        self._engine, self._args = engine, args
        self._tokenizer, self._fingerprint = tokenizer, fingerprint
        self._hash = AskedOnce(engine.weights, times=_RESTS)
        self._weights = ""

    async def look(self) -> None:
        """Hash the weights as they are in memory now.

        Raises:
            ScoringError: the engine does not answer.
        """
        self._weights = await self._hash()

    async def marked(self, scores: pa.Table, details: Details) -> pa.Table:
        """Scores that say what they were made with; of the weights as they are by now, where they were asked
        for to make sure.

        Raises:
            ScoringError: see `look`.
        """
        if details.plain and not self._engine.asleep:
            await self.look()
        return marked(scores, self.told)

    @property
    def told(self) -> MadeWith:
        """As of the last look."""
        processes = self._args.tensor_parallel_size * self._args.pipeline_parallel_size
        return MadeWith(
            engine=self._args.engine if processes == 1 else f"{self._args.engine} of {processes} processes",
            weights=self._weights,
            tokenizer=self._fingerprint,
            chat_template=schema.text_fingerprint(OWN.read_with(self._tokenizer)),
            dtype=self._args.dtype,
        )
