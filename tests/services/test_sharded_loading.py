"""Each rank reads its own rows of the weights, equal to the bit to what transformers reads whole."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from model_kinds import tiny
from ranks import join_ranks, start_ranks
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlad_core.config import LearnerConfig
from services.learner.loading import empty_policy, load_weights, make_ready
from services.learner.sharding import learner_mesh, shard
from services.learner.weight_files import WeightFiles
from services.learner.whole_weights import WholeWeights

CPU = torch.device("cpu")


def source(folder: Path, tokenizer: Path, kind: str, **saving: str) -> Path:
    tiny(kind, attention="eager", dtype=torch.bfloat16).save_pretrained(folder, **saving)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return folder


def load(rank: int, ranks: int, folder: str, out: str, learner: LearnerConfig, dtype: torch.dtype) -> None:
    join_ranks(rank, ranks, out)
    module = empty_policy(folder, CPU, 64)
    shard(module, learner, dtype, learner_mesh("cpu", ranks, learner.fsdp_size))
    read = load_weights(module, folder, CPU, 64)
    make_ready(module, dtype, CPU)  # its passes are those of the model
    state = {name: tensor.clone() for name, tensor in WholeWeights(module.model, torch.float32, CPU)}
    largest = max(parameter.to_local().nbytes for parameter in module.parameters())  # type: ignore[operator]
    torch.save({"state": state, "read": read, "largest": largest}, f"{out}/rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("kind", "ranks", "dtype", "learner"),
    [
        ("qwen3", 2, torch.float32, LearnerConfig()),
        ("llama, tied", 3, torch.bfloat16, LearnerConfig(gradients="scattered")),
        ("llama", 2, torch.bfloat16, LearnerConfig(cpu_offload=True)),
        pytest.param(
            "qwen2", 4, torch.float32, LearnerConfig(workers=4, fsdp_size=2), marks=pytest.mark.long
        ),
    ],
)
def test_a_rank_reads_its_rows(
    kind: str, ranks: int, dtype: torch.dtype, learner: LearnerConfig, tmp_path: Path, tiny_model
) -> None:
    folder = source(tmp_path / "model", tiny_model.path, kind, max_shard_size="10KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    start_ranks(load, ranks, str(folder), str(tmp_path), learner, dtype)
    found = [torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(ranks)]
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wanted = dict(expected.named_parameters())
    for each in found:
        assert each["state"].keys() == wanted.keys()
        for name, tensor in each["state"].items():
            assert torch.equal(tensor, wanted[name]), name
    stored = sum(2 * parameter.numel() for parameter in wanted.values())
    copies = ranks // (learner.fsdp_size or ranks)
    assert sum(each["read"] for each in found) == copies * stored  # every byte once a copy
    assert max(each["read"] for each in found) < 1.2 * copies * stored / ranks


def head_works_in(rank: int, ranks: int, folder: str, out: str) -> None:
    join_ranks(rank, ranks, out)
    module = empty_policy(folder, CPU, 64)
    shard(module, LearnerConfig(), torch.bfloat16, learner_mesh("cpu", ranks, None))
    load_weights(module, folder, CPU, 64)
    make_ready(module, torch.bfloat16, CPU)
    weight = module.model.get_output_embeddings().weight
    hidden = torch.ones(3, weight.shape[1], dtype=torch.bfloat16)
    found = module.head.inside(hidden, lambda states: [str(states.dtype), str(weight.dtype)])
    torch.save(found, f"{out}/rank-{rank}.pt")
    dist.destroy_process_group()


def test_an_untied_head_is_whole_and_its_product_in_the_precision_of_the_passes(
    tmp_path: Path, tiny_model
) -> None:
    folder = source(tmp_path / "model", tiny_model.path, "llama")
    start_ranks(head_works_in, 2, str(folder), str(tmp_path))
    for rank in range(2):
        assert torch.load(tmp_path / f"rank-{rank}.pt") == ["torch.bfloat16", "torch.float32"]


def test_pickled_weights_are_refused_with_a_way_out(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"are pickled .*save_pretrained"):
        WeightFiles(str(tmp_path))
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match="has no weights"):
        WeightFiles(str(tmp_path))
