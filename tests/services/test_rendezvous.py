"""A transfer group whose members do not all come: vLLM's own meeting, of which only NCCL is left out."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from test_weight_push import BOTH, Receiving, Sender, _push, _report
from vllm.distributed.utils import StatelessProcessGroup
from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from services.base.ports import free_port
from services.weights.push import WeightPush

pytestmark = pytest.mark.timeout(200)


JOINS = """
from datetime import timedelta
from torch.distributed import DistNetworkError, TCPStore
store = TCPStore("127.0.0.1", {port}, 3, False, timedelta(seconds=300))
print("joined", flush=True)
try:
    store.get("what rank 0 says when all have met")
except DistNetworkError:
    print("let go", flush=True)
"""


class Meeting(Receiving):
    """Replica a joins the first group, and waits there for b, which ends before; then both are there."""

    def __init__(self, port: int) -> None:
        super().__init__(BOTH)
        self.first, self._joins = True, JOINS.format(port=port)

    def results(self, **named: object) -> list[object]:
        if self._method != "connect_transfer":
            return super().results(**named)
        if not self.first:
            return BOTH
        self.first = False
        self.a = subprocess.Popen([sys.executable, "-c", self._joins], stdout=subprocess.PIPE, text=True)
        assert self.a.stdout is not None
        assert self.a.stdout.readline() == "joined\n"
        return [_report("a"), ActorDiedError()]


def test_a_replica_that_ends_before_a_group_has_met_ends_the_meeting(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port(host="127.0.0.1")
    handle = Meeting(port)
    push, taken = _push(handle, timeout_s=30), list[str]()

    def trainer_init(info: Any, *, client: Any, source: Any) -> Any:
        """As vLLM's does it; the second time all are there."""
        first = handle.first
        with ThreadPoolExecutor(1) as asked:
            answer = asked.submit(client.init_weight_transfer_engine, {})
            if first:
                StatelessProcessGroup.create("127.0.0.1", info.master_port, 0, 3)
            answer.result()
        return Sender(push, taken, None)

    info = NCCLTrainerInitInfo(rank=0, master_address="127.0.0.1", master_port=port, world_size=3)
    monkeypatch.setattr(WeightPush, "_init_info", lambda _: info)
    monkeypatch.setattr(WeightTransferTrainerFactory, "trainer_init", trainer_init)
    assert push.publish(3) == BOTH
    assert taken == ["first", "second"]
    told, _ = handle.a.communicate(timeout=60)
    assert told == "let go\n", "the replica that came need not wait either"
