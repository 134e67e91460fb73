"""What `rlad plan` says of memory and time: against models that fit here, and against what a GPU took."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from example_recipe import read
from torch import Tensor
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from rlad_core.config import load
from rlad_core.config.remarks import run_remarks
from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs
from rlad_core.norms import lean_norms
from rlad_core.packing import pack
from rlad_core.sizing import (
    GPUS,
    Shape,
    needs,
    problems,
    shape_of,
    store_problems,
    times,
)
from rlad_core.sizing.learner import learner_need
from rlad_core.sizing.memory import experience_need
from rlad_core.sizing.need import GIB, RESERVE, kept_per_token

QWEN = "Qwen/Qwen3-0.6B"


def config_of(shape: Shape, layers: int | None = None) -> Qwen3Config:
    return Qwen3Config(
        num_hidden_layers=layers or shape.layers,
        hidden_size=shape.width,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head,
        intermediate_size=shape.mlp,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
        attn_implementation=PACKED_ATTENTION,
    )


@pytest.mark.parametrize("size", ["0.6B", "1.7B", "4B", "8B", "14B", "32B"])
def test_parameters_are_those_of_the_model(size: str) -> None:
    shape = shape_of(f"Qwen/Qwen3-{size}")
    assert shape is not None
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config_of(shape))
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert shape.parameters == pytest.approx(counted, rel=1e-3)  # without norms
    assert counted == pytest.approx(float(size.removesuffix("B")) * 1e9, rel=0.2)


@pytest.mark.parametrize(
    ("model", "billions", "tied"),
    [
        ("Qwen/Qwen2.5-0.5B", 0.494, 0.136),
        ("Qwen/Qwen2.5-Math-1.5B", 1.543, 0.233),
        ("Qwen/Qwen2.5-3B-Instruct", 3.086, 0.311),
        ("Qwen/Qwen2.5-Math-7B-Instruct", 7.616, 0),
        ("Qwen/Qwen2.5-14B", 14.77, 0),
        ("Qwen/Qwen2.5-32B-Instruct", 32.76, 0),
        ("Qwen/Qwen2.5-72B", 72.71, 0),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1.777, 0),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7.616, 0),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", 32.76, 0),
    ],
)
def test_other_families_have_the_parameters_that_their_cards_tell(
    model: str, billions: float, tied: float
) -> None:
    """As the hub counts the weights; `tied` is the embedding's part where it is the head too."""
    shape = shape_of(model)
    assert shape is not None
    assert shape.parameters == pytest.approx(billions * 1e9, rel=1e-3)
    assert (shape.embedding_parameters / 1e9 if shape.tied else 0) == pytest.approx(tied, abs=1e-3)


def test_a_folder_tells_its_shape(tiny_model, tmp_path: Path) -> None:
    shape = shape_of(str(tiny_model.path))
    assert shape is not None
    counted = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(tiny_model.path).parameters())
    assert shape.parameters == pytest.approx(counted, rel=0.02)
    assert shape_of("somebody/else") is None
    written = json.loads((tiny_model.path / "config.json").read_text())
    for heads, there in ((None, True), ([2, 4], False)):
        (tmp_path / "config.json").write_text(json.dumps(written | {"num_key_value_heads": heads}))
        assert (shape_of(str(tmp_path)) is not None) is there
    (tmp_path / "config.json").write_text("[]")
    assert shape_of(str(tmp_path)) is None


def kept(shape: Shape, layers: int, dtype: torch.dtype, tokens: int) -> int:
    """Bytes that a forward pass keeps for the backward pass, weights aside."""
    module = ResponseLogprobs(Qwen3ForCausalLM(config_of(shape, layers)).to(dtype)).train()
    lean_norms(module.model)  # as the learner does on CPUs
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    found: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    generator = np.random.default_rng(0)
    halves = generator.integers(shape.vocabulary, size=(2, tokens // 2))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(pack([tuple(halves)]))
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "shape",
    [
        Shape(2, 96, 4, 2, 32, 96, 64, tied=True),
        Shape(2, 256, 4, 4, 64, 768, 64, tied=True),
        Shape(2, 128, 8, 2, 32, 384, 64, tied=True),
    ],
)
def test_kept_activations_are_those_that_are_kept(shape: Shape, dtype: str) -> None:
    tokens = 512
    measured = kept(shape, 3, getattr(torch, dtype), tokens) - kept(shape, 2, getattr(torch, dtype), tokens)
    assert kept_per_token(shape, dtype, on_gpu=False) == pytest.approx(measured / tokens, rel=0.05)


@pytest.mark.parametrize(
    ("tokens", "recompute", "gib"),
    [(16_384, "off", 34.0), (16_384, "selective", 16.6), (16_384, "full", 5.5), (65_536, "full", 11.9)],
)
def test_the_learner_takes_what_an_h200_took(tokens: int, recompute: str, gib: float) -> None:
    """Not compiled, one rank, above weights and optimizer: benchmarks/learner.py, see docs/performance.md."""
    config = read(
        f"policy.model={QWEN}",
        "policy.init=pretrained",
        "policy.dtype=bfloat16",
        "learner.num_gpus=1",
        f"learner.tokens_per_micro_batch={tokens}",
        f"learner.activation_checkpointing={recompute}",
    )
    shape = shape_of(QWEN)
    assert shape is not None
    parts = learner_need(config, shape).parts
    above = sum(size for name, size in parts.items() if name not in ("weights", "optimizer"))
    assert above / GIB == pytest.approx(gib, rel=0.15)


def test_what_cannot_fit_names_the_field() -> None:
    config = load(Path("qwen3-0.6b-kk-trrd"))
    gpu = GPUS["H100"]
    assert not list(problems(needs(config, gpu), gpu))
    whole = config.model_copy(
        update={"learner": config.learner.model_copy(update={"activation_checkpointing": "off"})}
    )
    [problem] = problems(needs(whole, gpu), gpu)
    assert problem.path == "learner.tokens_per_micro_batch"
    assert "activation_checkpointing: full" in problem.advice
    small, large = GPUS["RTX-4090"], load(Path("qwen3-0.6b-kk-trrd"), ["teacher.max_tokens_per_batch=65536"])
    [problem] = problems(needs(large, small), small)
    assert problem.path == "teacher.max_tokens_per_batch"


def refused(recipe: str, gpu: str, *settings: str) -> list[str]:
    config = load(Path(recipe), settings)
    return [f"{each.path}: {each.advice}" for each in problems(needs(config, GPUS[gpu]), GPUS[gpu])]


def test_what_is_advised_can_be_done() -> None:
    """No budget below the longest sequence, no second device for torch: both would be refused themselves."""
    longest = "qwen3-8b-base-math-trrd"  # recomputed, 32,768 tokens at a time, which one sequence may have
    learner, rollout, teacher = refused(longest, "RTX-4090")
    assert learner.startswith("learner.tokens_per_micro_batch: ")
    assert learner.endswith(": lower policy.max_length and it, or take a GPU with more memory")
    assert "teacher.engine: vllm" in teacher
    whole = ("teacher.engine=vllm", "teacher.tensor_parallel_size=4", "teacher.num_gpus=4")
    *_, cache = refused(longest, "RTX-4090", *whole)
    assert cache.startswith(
        "teacher.gpu_memory_utilization: leaves no room for a KV cache on a RTX-4090, which"
    )
    assert cache.endswith(": raise teacher.tensor_parallel_size, and teacher.num_gpus with it, or this")
    # 36 layers x 8 heads x 128 numbers, twice, of 2 bytes, for 32,768 tokens: 4.5 GiB.
    assert "keys and values of the longest sequence 4.5 GiB" in rollout
    assert rollout.endswith("or this, or lower rollout.max_num_batched_tokens")
    fewer = "rollout.max_num_batched_tokens=4096"
    assert not [each for each in refused(longest, "RTX-4090", fewer) if each.startswith("rollout")]
    whole += ("teacher.gpu_memory_utilization=0.9",)
    assert not [each for each in refused(longest, "RTX-4090", *whole) if each.startswith("teacher")]
    [learner] = refused(longest, "H100", "learner.tokens_per_micro_batch=262144")
    assert learner.endswith(": lower it, down to 32,768")
    [learner] = refused(longest, "H100", "learner.workers=1", "teacher.num_replicas=1")
    assert learner.endswith(
        "most is optimizer (61 GiB): raise learner.workers, or write learner.cpu_offload: true"
    )
    assert not refused(longest, "H100", "learner.workers=1", "learner.cpu_offload=true")
    reference = "reference={kind: serve, model: Qwen/Qwen3-32B, num_gpus: 1, max_tokens_per_batch: 262144}"
    [place] = refused(longest, "H100", reference, "stages.0.objective.reference_kl=0.1")
    assert place.startswith("reference.max_tokens_per_batch: ")


def test_an_engine_without_room_for_a_sequence_is_refused() -> None:
    """vLLM would not start: the cache is what its share leaves, and a step's values come out of it too."""
    recipe, words = "qwen3-0.6b-kk-trrd", "keys and values of the longest sequence"
    # 28 layers x 8 heads x 128 numbers, twice, of 2 bytes, for 3,072 tokens: 0.33 GiB; weights 1.1 of 80.
    for share, left in ((0.013, "no room"), (0.016, r"0\.16 GiB")):
        [found] = refused(recipe, "H100", f"rollout.gpu_memory_utilization={share}")
        assert re.search(rf"^rollout.gpu_memory_utilization: leaves {left} .*{words} 0\.33 GiB", found)
    assert not refused(recipe, "H100", "rollout.gpu_memory_utilization=0.1")
    teacher = ["teacher.engine=vllm", "teacher.dtype=float32", "teacher.model=Qwen/Qwen3-8B"]
    [found] = refused(recipe, "H100", *teacher)
    assert found.startswith("teacher.gpu_memory_utilization: leaves 1.3 GiB for a KV cache on a H100")
    assert ": write teacher.dtype: bfloat16, or raise teacher.tensor_parallel_size" in found
    assert not refused(recipe, "H100", *teacher[:1])
    on_cpus = ["rollout.num_gpus=0", "weights.transfer=object_store", "rollout.kv_cache_memory_gib=0.3"]
    [found] = refused(recipe, "H100", *on_cpus)
    assert found == f"rollout.kv_cache_memory_gib: is too small for {words} 0.33 GiB. Write 0.4 or more"


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("rollout.gpu_memory_utilization", ()),
        ("teacher.gpu_memory_utilization", ("teacher.engine=vllm",)),
        ("rollout.kv_cache_memory_gib", ("rollout.num_gpus=0", "weights.transfer=object_store")),
    ],
)
def test_a_share_that_is_too_small_is_told_as_it_is_written(field: str, more: tuple[str, ...]) -> None:
    config = load(Path("qwen3-0.6b-kk-trrd"), [*more, f"{field}=0.02"])
    [problem] = problems(needs(config, GPUS["H100"]), GPUS["H100"])
    assert str(problem).startswith(f"{field} (0.02): ")


def test_what_vllm_needs_to_tell_likely_tokens_lies_beside_its_share() -> None:
    likely = ["teacher.engine=vllm", "stages.0.objective={kind: trrd, anchor: normalised, top_k: 32}"]
    config = load(Path("qwen3-0.6b-kk-trrd"), likely)
    [teacher] = [need for need in needs(config, GPUS["H100"]) if need.role == "teacher service"]
    assert teacher.parts["log-probs of a batch"] == 6 * config.teacher.max_tokens_per_batch * 151_936
    assert teacher.total > GPUS["H100"].memory * config.teacher.gpu_memory_utilization


def test_in_float32_a_gpu_is_slow_and_told_so() -> None:
    """67 TFLOP/s in place of 989; the same operations, and bfloat16 is the first that is advised."""
    gpu, recipe = GPUS["H100"], Path("qwen3-0.6b-kk-trrd")
    slow = ["policy.dtype=float32", "teacher.dtype=float32"]
    half, full = (
        {each.stage: each for each in times(config, config.stages[0], gpu)}
        for config in (load(recipe), load(recipe, slow))
    )
    for stage in ("teacher", "update"):
        assert full[stage].flops == half[stage].flops
        assert full[stage].seconds == pytest.approx(half[stage].seconds * 989 / 67)
    assert full["rollout"].seconds > half["rollout"].seconds
    assert not [said for said in run_remarks(load(recipe)) if "dtype" in said]
    said = [said for said in run_remarks(load(recipe, slow)) if "dtype" in said]
    assert [each.split()[0] for each in said] == ["policy.dtype", "teacher.dtype"]
    assert not [each for each in run_remarks(load(Path("kk-tiny-trrd"))) if "dtype" in each]
    small = refused("qwen3-8b-base-math-trrd", "RTX-4090", *slow)
    advised = [each for each in small if "dtype: bfloat16, or " in each]
    assert {each.partition(".")[0] for each in advised} >= {"learner", "rollout", "teacher"}


def test_a_teacher_that_demonstrates_is_counted_as_an_engine() -> None:
    config = load("kk-tiny-sft")
    [teacher] = [need for need in needs(config, None) if need.role == "teacher as demonstrator"]
    assert teacher.parts["KV cache"] == config.served_teachers["teacher"].kv_cache_memory_gib * GIB


def test_roles_on_one_gpu_are_added_up() -> None:
    config = load(Path("qwen3-0.6b-kk-trrd-1gpu"))
    assert not list(problems(needs(config, GPUS["H100"]), GPUS["H100"]))
    shared = [p for p in problems(needs(config, GPUS["L40S"]), GPUS["L40S"]) if "share" in p.advice]
    assert not shared  # 13.8 + 8.8 + 11.8 GiB: the cache follows the GPU's size
    crowded = config.model_copy(
        update={"rollout": config.rollout.model_copy(update={"gpu_memory_utilization": 0.8})}
    )
    [problem] = [p for p in problems(needs(crowded, GPUS["L40S"]), GPUS["L40S"]) if "share" in p.advice]
    assert "rollout.gpu_memory_utilization" in problem.advice


def test_of_roles_that_sleep_the_larger_of_two_times_counts() -> None:
    card = GPUS["RTX-4090"]
    config = load(Path("qwen3-0.6b-kk-trrd-lora-24gb"))
    assert not list(problems(needs(config, card), card))
    awake = load(Path("qwen3-0.6b-kk-trrd-lora-24gb"), ["rollout.sleep=false", "teacher.sleep=false"])
    [problem] = problems(needs(awake, card), card)
    assert "let engines sleep" in problem.advice
    learner, rollout, *_, teacher = needs(config, card)
    assert (rollout.at_rest, teacher.at_rest) == (0, 0)
    assert learner.at_rest == learner.parts["weights"] + learner.parts["optimizer"]
    assert rollout.host["sleeping weights"] == rollout.parts["weights"]
    # Engines and what lasts of the learner, 21 GiB, are more than the learner at work alone.
    room = rollout.total + teacher.total + learner.at_rest + RESERVE
    small = replace(card, memory=room - 1)
    assert list(problems(needs(config, card), small))
    assert not list(problems(needs(config, card), replace(card, memory=room)))


def test_the_host_holds_two_versions_and_a_step_s_experience() -> None:
    config = load(Path("qwen3-0.6b-kk-trrd"), ["weights.transfer=object_store"])
    found = {need.role: need for need in needs(config, GPUS["H200"])}
    shape = shape_of(QWEN)
    assert shape is not None
    assert found["policy store"].total == 2 * 2 * shape.parameters
    assert found["object store"].total == 40 * 2048 * 3072
    assert not list(store_problems(config))
    # An id and a log-prob of each likely token of each response token, as they come and assembled.
    told = load(
        Path("qwen3-0.6b-kk-trrd"), ["stages.0.objective={kind: trrd, anchor: normalised, top_k: 32}"]
    )
    [more] = [need for need in needs(told, GPUS["H200"]) if need.role == "object store"]
    assert more.total == 40 * 2048 * 3072 + 2 * 8 * 32 * 2048 * told.rollout.max_response_length
    # Sampled ahead, the next step's is assembled beside this one's; what is kept whole, beside the shards.
    # Those of later steps than the next lie there as they come.
    for settings, often in ((["rollout.max_staleness=1"], 3), (["telemetry.keep_experience=all"], 3),
                            (["rollout.max_staleness=3"], 5),
                            (["rollout.max_staleness=2", "telemetry.keep_experience=all"], 6)):  # fmt: skip
        ahead = load(Path("qwen3-0.6b-kk-trrd"), settings)
        [held] = [need for need in needs(ahead, GPUS["H200"]) if need.role == "object store"]
        assert held.total == often * 20 * 2048 * 3072
    # Nothing is sampled for a step that the stage does not have.
    for steps, staleness in ((3, 2), (1, 0)):
        few = [f"stages.0.steps={steps}", "learner.warmup_steps=0"]
        long, enough = (
            load(Path("qwen3-0.6b-kk-trrd"), [f"rollout.max_staleness={k}", *few]) for k in (200, staleness)
        )
        assert experience_need(long).total == experience_need(enough).total
        assert list(store_problems(long)) == []
    for settings, whose in (([], "a step"), (["rollout.max_staleness=1"], "of those sampled ahead of it")):
        small = load(Path("qwen3-0.6b-kk-trrd"), ["cluster.object_store_gib=0.1", *settings])
        [problem] = store_problems(small)
        assert problem.path == "cluster.object_store_gib"
        assert whose in str(problem)


@pytest.mark.parametrize(
    ("setting", "part", "share"),
    [("gradients=local", "gradients", 4.0), ("gradients=scattered", "gradients", 2.0),
     ("optimizer=adamw_8bit", "optimizer", 1.0), ("fsdp_size=1", "optimizer", 8.0)],
)  # fmt: skip
def test_where_weights_gradients_and_optimizer_lie_is_counted(setting: str, part: str, share: float) -> None:
    shape = shape_of(QWEN)
    assert shape is not None
    two = "learner.workers=2"
    config = load(Path("qwen3-0.6b-kk-trrd"), [two, f"learner.{setting}"])
    assert learner_need(config, shape).parts[part] == share * shape.parameters
    offloaded = learner_need(load(Path("qwen3-0.6b-kk-trrd"), [two, "learner.cpu_offload=true"]), shape)
    assert "optimizer" not in offloaded.parts
    assert offloaded.host["optimizer"] == 4 * shape.parameters


def test_the_copy_that_a_checkpoint_is_written_from_is_counted_on_the_host() -> None:
    shape = shape_of(QWEN)
    assert shape is not None
    for settings, bytes_each in (([], 12), (["learner.optimizer=adamw_8bit"], 6)):
        config = load(Path("qwen3-0.6b-kk-trrd"), ["learner.workers=2", *settings])
        learner = learner_need(config, shape)
        assert learner.host == {"a checkpoint's copy": bytes_each * shape.parameters / 2}
    on_cpus = load("kk-tiny-trrd")
    [learner] = [need for need in needs(on_cpus, None) if need.role == "learner"]
    copied = learner.parts["weights"] + learner.parts["optimizer"]
    assert learner.parts["a checkpoint's copy"] == copied == learner.at_rest


def test_what_an_exact_normaliser_takes_is_told() -> None:
    stage = "stages=[{steps: 1, objective: {kind: trrd, anchor: normalised, source: hidden}}]"
    config = load("kk-tiny-trrd", [stage, "learner.warmup_steps=0"])
    [learner] = [need for need in needs(config, None) if need.role == "learner"]
    shape = shape_of(config.served_teachers["teacher"].model)
    assert shape is not None
    # 96 numbers of 4 bytes; at most 32 prompts x 8 responses x 96 tokens.
    assert "pulls 384 bytes a response token of the teacher, 0.00879 GiB a step" in learner.note
    assert learner.parts["the teacher's head"] == 4 * shape.embedding_parameters
    of_two = 2 * 384 * config.learner.tokens_per_micro_batch
    assert learner.parts["the teacher's hidden states"] == of_two
    ranks = load("kk-tiny-trrd", [stage, "learner.warmup_steps=0", "learner.workers=2"])
    [store] = [need for need in needs(ranks, None) if need.role == "object store"]
    assert store.parts["hidden states"] == 2 * of_two
