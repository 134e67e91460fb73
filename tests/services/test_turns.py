"""Turns at a model: shared ones beside each other, an exclusive one alone and not for ever waiting."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from services.teacher.scoring.turns import Turns


def test_who_wants_to_be_alone_gets_there_while_others_keep_coming() -> None:
    turns, over = Turns(), threading.Event()
    inside, alone = 0, 0
    lock = threading.Lock()

    def share() -> None:
        nonlocal inside
        while not over.is_set():
            with turns.shared():
                with lock:
                    inside += 1
                time.sleep(0.002)  # long enough to be there at the same time as others
                with lock:
                    inside -= 1

    def be_alone() -> None:
        nonlocal alone
        with turns.alone():
            with lock:
                assert inside == 0
                alone += 1
                assert alone == 1
            time.sleep(0.002)  # in which nobody may come in
            with lock:
                assert inside == 0
                alone -= 1

    with ThreadPoolExecutor(6) as pool:
        sharers = [pool.submit(share) for _ in range(3)]
        try:
            for one in [pool.submit(be_alone) for _ in range(20)]:
                one.result(timeout=60)
        finally:
            over.set()
        for sharer in sharers:
            sharer.result(timeout=60)
