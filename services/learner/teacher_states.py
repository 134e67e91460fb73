"""The teacher's hidden states at the places of a micro-batch, and its head, which the learner holds.

    micro-batch i in the pass                      log Z beside its log-probs (`rlad_core.exact_normaliser`)
    micro-batch i + 1 asked for in a thread -----> TeacherService.score, details: hidden

States are pulled for one micro-batch at a time, one ahead, and dropped with it: they are in no table of a
step's experience. The teacher works on them behind the learner; where the learner has to wait for them, that
is time of the teacher too (`services.learner.step_times`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

import numpy as np
import pyarrow as pa
import torch
from ray import serve
from tenacity import retry, retry_if_exception_type, stop_after_attempt
from torch import Tensor

from rlad_core import schema
from rlad_core.client.details import Details, HiddenDtype, hidden_states
from rlad_core.config import RunConfig, ServeTeacher, resolve_model
from rlad_core.exact_normaliser import ExactNormaliser, HeadWeights
from rlad_core.language_model.head import logit_scale
from rlad_core.language_model.loading import load_causal_lm
from services.base.telemetry import span
from services.clients.calls import TRANSIENT
from services.clients.handles import ServiceNames
from services.learner.loading import empty_policy
from services.learner.weight_files import WeightFiles, Weights, WholeModel

_ATTEMPTS = 5

Ask = Callable[[pa.Table], pa.Table]
"""SEQUENCES -> TEACHER_DETAILS with hidden states."""


class TeacherStates:
    """Of one rank.

    Args:
        ask: the teacher.
        head: its, on the learner's device.
    """

    def __init__(self, ask: Ask, head: HeadWeights) -> None:
        self._ask = ask
        self.head = head
        self._thread = ThreadPoolExecutor(1, "teacher-states")

    def normalisers(
        self, wanted: Sequence[pa.Table | None], alpha: float, end_ids: Sequence[int]
    ) -> Iterator[ExactNormaliser | None]:
        """What sums log Z of each micro-batch, in order.

        Args:
            wanted: SEQUENCES of each; None: it is not asked for.
            alpha: of the anchor.
            end_ids: tokens that are one outcome.

        Raises:
            RuntimeError, TimeoutError: the teacher does not tell.
        """
        coming: dict[int, Future[Tensor]] = {}
        for number, sequences in enumerate(wanted):
            for ahead in (number, number + 1):
                if ahead < len(wanted) and ahead not in coming and (table := wanted[ahead]) is not None:
                    # In the context: it is a span of the step's trace.
                    coming[ahead] = self._thread.submit(copy_context().run, self._states, table)
            if sequences is None:
                yield None
                continue
            states = _awaited(coming.pop(number))
            yield ExactNormaliser(states.to(self.head.weight.device), self.head, alpha, end_ids)

    def _states(self, sequences: pa.Table) -> Tensor:
        """[T, D] of all response tokens, in the head's precision."""
        lengths = schema.lengths(sequences.column("response_token_ids")).tolist()
        with span("teacher", items=len(sequences), tokens=sum(lengths), behind=True):
            told = self._ask(sequences)
        if told.column("sequence_id").to_pylist() != sequences.column("sequence_id").to_pylist():
            raise RuntimeError("the teacher told hidden states of other sequences than it was asked about")
        rows = [hidden_states(told, row) for row in range(len(told))]
        if [len(each) for each in rows] != lengths or rows[0].shape[1] != self.head.weight.shape[1]:
            raise RuntimeError("the teacher's hidden states do not fit its responses, or the head held here")
        return torch.from_numpy(np.concatenate(rows)).to(self.head.weight.dtype)


def _awaited(states: Future[Tensor]) -> Tensor:
    if states.done():
        return states.result()
    with span("teacher"):  # the step waits for it
        return states.result()


def teacher_states(config: RunConfig, device: torch.device) -> TeacherStates | None:
    """Those of the run's teacher; None where no objective is computed from them.

    Raises:
        ValueError: the head is not to be found in the teacher's folder.
    """
    if not config.needs_hidden_states:
        return None
    [(place, teacher)] = config.teacher_sections.items()
    assert isinstance(teacher, ServeTeacher)  # see rlad_core.config.hidden_states
    handle = serve.get_app_handle(ServiceNames(config.services_name).teacher_app(place))
    details = Details(hidden=teacher.dtype)

    @retry(stop=stop_after_attempt(_ATTEMPTS), retry=retry_if_exception_type(TRANSIENT), reraise=True)
    def ask(sequences: pa.Table) -> pa.Table:
        try:
            told: pa.Table = handle.score.remote(sequences, details).result(timeout_s=teacher.timeout_s)
        except TimeoutError as error:
            waited = f"{teacher.timeout_s:g} s for the teacher's hidden states"
            raise TimeoutError(f"waited {waited} ({place}.timeout_s)") from error
        return told

    return TeacherStates(ask, teacher_head(resolve_model(teacher.model), teacher.dtype, device))


def teacher_head(folder: str, dtype: HiddenDtype, device: torch.device) -> HeadWeights:
    """A model's head, read without its layers where its files name it as the model does."""
    kind = getattr(torch, dtype)
    module = empty_policy(folder, torch.device("cpu"), 1)
    model = module.model
    head = model.get_output_embeddings()
    names = [name for name, each in model.named_parameters(remove_duplicate=False) if each is head.weight]
    files: WeightFiles = WeightFiles(folder, model.base_model_prefix)
    weights: Weights = files
    found = next((name for name in names if not files.missing([name])), None)
    if found is None:
        whole = load_causal_lm(
            folder, dtype=kind, attention="sdpa", max_length=1, advice="take another teacher"
        )
        weights, found = WholeModel(whole), names[0]
    rows = int(head.weight.shape[0])
    bias = None
    if getattr(head, "bias", None) is not None:
        name = next(name for name, each in model.named_parameters() if each is head.bias)
        bias = weights.rows(name, 0, rows).to(device, kind)
    weight = weights.rows(found, 0, rows).to(device, kind)
    return HeadWeights(weight, bias, logit_scale(model.config.get_text_config()), module.head.tokens)
