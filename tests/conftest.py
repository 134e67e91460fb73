"""Fixtures that several test files share: tiny random models, and one Ray cluster for the whole session."""

import os

# Before anything imports ray: its token authentication leaves a file in the home directory otherwise.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray replaces 127.0.0.1 by the machine's own address unless clusters of several nodes are off; the name of
# the switch is about other systems, the switch is not.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
# One thread a process: the engines, learners and tests of a session run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As the embedded Ray of `rlad` has them.
os.environ.setdefault("RAY_SERVE_CONTROL_LOOP_INTERVAL_S", "0.5")
os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "services.serve.http.proxy:middlewares")

import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from benchmarks import stock_server as stock
from rlad_core.config import resolve_model
from services.base.ports import free_port

# The test folders are no packages (pytest imports each file by itself); what they share lies beside them.
sys.path.insert(0, str(Path(__file__).parent))

from rlad_command import Said, in_this_process

# How long an example takes depends on who else is at work on the machine.
settings.register_profile("any machine", settings(), deadline=None)
settings.load_profile("any machine")

VOCABULARY = 320
END_TOKEN_ID = 1


#: Serve's own default may be taken by another cluster of this machine.
SERVE_PORT = free_port()


@dataclass(frozen=True)
class TinyModel:
    """A random Qwen3 in Hugging Face layout, with a word-level tokenizer: ids 0..2 are special."""

    path: Path
    tied: bool
    vocab_size: int = VOCABULARY
    end_token_id: int = END_TOKEN_ID


def make_tiny_model(path: Path, *, tied: bool, seed: int = 0, padding: int = 0) -> TinyModel:
    """Write a model of two layers and about 0.1M parameters.

    Args:
        padding: rows behind those of the tokens, which are none.

    The weights are large for a random model, so that its distributions are far from uniform and a wrong
    weight shows in the log-probs. vLLM's CPU attention wants heads of at least 32.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    words = ["<pad>", "<end>", "<unk>", *(f"w{index}" for index in range(3, VOCABULARY))]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(path)

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY + padding,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=512,
        initializer_range=0.2,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=END_TOKEN_ID,
        pad_token_id=0,
        dtype="float32",
    )
    Qwen3ForCausalLM(config).save_pretrained(path)
    return TinyModel(path=path, tied=tied)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """With the head tied to the embedding, as small Qwen3 models have it."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "tied", tied=True)


@pytest.fixture(scope="session")
def untied_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """With a head of its own."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "untied", tied=False)


@pytest.fixture(scope="session")
def padded_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Tied; an eighth of its rows are no tokens, and would be sampled too often to be missed."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "padded", tied=True, padding=40)


@pytest.fixture(scope="session")
def prometheus_programs() -> dict[str, Path]:
    """prometheus and promtool. In CI on Debian they can be had, so a test without them fails there."""
    from deploy.prometheus.executables import MissingError, executables

    try:
        return executables()
    except MissingError as error:
        if os.environ.get("CI") == "true" and shutil.which("apt-get"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def serve_url(ray_cluster: None) -> str:
    """Where Serve's HTTP routes of the session's cluster are."""
    return f"http://127.0.0.1:{SERVE_PORT}"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """An embedded Ray on the loopback interface. Logical CPUs are oversubscribed on purpose."""
    import ray
    from ray import serve

    ray.init(
        address="local",  # also where somebody has started a cluster on this machine
        num_cpus=8,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        namespace="rlad",
        object_store_memory=256 * 2**20,
        logging_level=logging.WARNING,
        log_to_driver=bool(os.environ.get("RLAD_TEST_WORKER_LOGS")),
    )
    serve.start(http_options={"host": "127.0.0.1", "port": SERVE_PORT})
    yield
    ray.shutdown()  # and with it all that is deployed still


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that in the end no worker is left alone with them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


#: Fixtures that take long and are there once for a session, and the name of what their files have in common.
SHARED = {"finished_run": "runs", "stock_server": "runs", "http": "http", "rollouts": "rollouts"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers each file keeps to one, and so do files that share what is started for them."""
    from xdist.scheduler import LoadScopeScheduling

    class BySharedFixtures(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            # Nothing is collected in this process, so the fixtures are those that stand in the file.
            file = nodeid.partition("::")[0]
            text = (config.rootpath / file).read_text()
            shared = (scope for name, scope in SHARED.items() if re.search(rf"[(,]\s*{name}: ", text))
            return next(shared, file)

    return BySharedFixtures(config, log)


@pytest.fixture(scope="session")
def stock_server() -> Iterator[str]:
    """URL of a vLLM OpenAI server that serves the shipped teacher as `kk`."""
    options = ("--dtype", "float32", "--enforce-eager", "--max-model-len", "512", "--max-num-seqs", "32")
    with stock.stock_server(resolve_model("rlad:kk-teacher"), "kk", *options, "--enable-scale-out") as url:
        yield url


@pytest.fixture
def rlad(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Said]:
    """The command, in this process and an empty folder."""
    return in_this_process(monkeypatch, capsys, tmp_path)
