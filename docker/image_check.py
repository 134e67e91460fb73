"""Builds the image `cpu` without a daemon, starts it as its user with a read-only root, and asks it.

    python docker/image_check.py --out /tmp/image-check    # as a part of make image-check

Ray's own image comes from a registry, which is not at hand everywhere. So the base is a stand-in of Debian's
packages, with user, home and Python of `rayproject/ray` in their places. What is shown is that the
Dockerfile builds, and that what it builds runs without root and without writing outside its volumes; not that
it fits Ray's image to the last file.

Needs root, Debian's `buildah` and `mmdebstrap`, 25 GB of disk, and what pip is configured with here.
In --out it leaves report.json (size, layers, labels, seconds) and sbom.cdx.json, in CycloneDX's form.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BASE, TAG, IMAGE = "localhost/stand-in/ray", "2.60.0-py311", "localhost/rlad:check"
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates,wget,git,sudo,procps,libgomp1,libnuma1"
BOM = "cyclonedx-bom==7.2.1"
START_LIMIT_S, BUILD_LIMIT_S = 240.0, 2400
#: What the volumes of a pod are: all else is read-only.
WRITABLE = ("/tmp", "/runs", "/dev/shm")
_LIST = """
import importlib.metadata
for each in importlib.metadata.distributions():
    print(f"{each.metadata['Name']}=={each.version}")
"""
SEQUENCE = {"sequences": [{"id": "a", "prompt_token_ids": [5, 6], "response_token_ids": [7, 8, 9]}]}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="a folder for the report; images are made below it"
    )
    parser.add_argument("--port", type=int, default=8123, help="of the teacher that is started")
    parser.add_argument("--keep", action="store_true", help="leave the images, 15 GB, for another time")
    args = parser.parse_args()
    if missing := [name for name in ("buildah", "mmdebstrap") if shutil.which(name) is None]:
        print(f"needs {' and '.join(missing)}: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    if os.geteuid():
        print("needs root, to make a root file system", file=sys.stderr)
        return 2
    out: Path = args.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    buildah = Buildah(out / "storage")
    report: dict[str, Any] = {}
    for name, step in (("base", base), ("build", build)):
        clock = time.monotonic()
        step(buildah, out)
        report[f"{name}_seconds"] = round(time.monotonic() - clock, 1)
        print(f"{name}: {report[f'{name}_seconds']} s", flush=True)
    report |= described(buildah)
    container = buildah("from", "--pull-never", IMAGE).strip()
    rootfs = Path(buildah("mount", container).strip())
    report["doctor"] = inside(rootfs, "rlad", "doctor")
    print(report["doctor"], flush=True)
    report["scores"] = scores(rootfs, args.port)
    sbom(rootfs, out)
    if not args.keep:
        shutil.rmtree(out / "storage")
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(
        f"{IMAGE}: {report['bytes'] / 1e9:.2f} GB in {report['layers']} layers; "
        f"a sequence scored {report['scores']}"
    )
    return 0


class Buildah:
    """buildah with a storage of its own, which needs no daemon and no kernel's overlay."""

    def __init__(self, storage: Path) -> None:
        self._common = [
            "--root",
            str(storage / "root"),
            "--runroot",
            str(storage / "run"),
            "--storage-driver",
            "vfs",
        ]

    def __call__(self, *arguments: str, shown: bool = False) -> str:
        """What it prints. Raises CalledProcessError."""
        done = subprocess.run(
            ["buildah", *self._common, *arguments],
            stdout=None if shown else subprocess.PIPE,
            text=True,
            timeout=BUILD_LIMIT_S,
            check=True,
            cwd=ROOT,
        )
        return done.stdout or ""


def base(buildah: Buildah, out: Path) -> None:
    """The stand-in of Ray's image, where it is not there already."""
    if f"{BASE}:{TAG}" in buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        return
    tar = out / "base.tar"
    as_ray = (
        "useradd --root {} --uid 1000 --gid 100 --create-home --home-dir /home/ray --shell /bin/bash ray",
        "mkdir -p {}/home/ray/anaconda3/bin",
        "ln -s /usr/bin/python3 {}/home/ray/anaconda3/bin/python",
    )
    hooks = [f"--customize-hook={line.format('$1')}" for line in as_ray]
    command = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", *hooks, SUITE, str(tar)]
    sources = [str(file) for file in Path("/etc/apt/sources.list.d").glob("*.sources")]
    subprocess.run([*command, *(sources or ["/etc/apt/sources.list"])], check=True, timeout=900)
    container = buildah("from", "scratch").strip()
    buildah("add", container, str(tar), "/")
    path = "/home/ray/anaconda3/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    buildah("config", "--env", f"PATH={path}", "--env", "HOME=/home/ray", "--user", "1000:100", container)
    buildah("commit", "--rm", container, f"{BASE}:{TAG}")
    tar.unlink()


def build(buildah: Buildah, out: Path) -> None:
    """The target `cpu`, with the package sources that this machine has."""
    mounts = [f"--volume={place}:{place}:ro" for place in pip_places(out)]
    buildah(
        "bud", "--format", "docker", "--isolation", "chroot", "--pull-never",
        "--file", "docker/Dockerfile", "--target", "cpu", "--build-arg", f"BASE={BASE}", "--tag", IMAGE,
        f"--volume={out / 'pip.conf'}:/etc/pip.conf:ro", *mounts, ".",
        shown=True,
    )  # fmt: skip


def pip_places(out: Path) -> list[str]:
    """Files and folders that pip is told of here; its settings are written to ``out/pip.conf``."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    settings = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        settings[key.removeprefix(":env:.").partition(".")[2] or key.removeprefix(":env:.")] = value.strip(
            "'"
        )
    (out / "pip.conf").write_text(
        "[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())
    )
    words = [word for value in settings.values() for word in value.split()]
    # The pages of an index on this disk name files beside it.
    places = [str(Path(word[7:]).parent) if word.startswith("file://") else word for word in words]
    return sorted({place for place in places if place.startswith("/") and Path(place).exists()})


def described(buildah: Buildah) -> dict[str, Any]:
    """Size, layers and labels of the image."""
    [listed] = json.loads(buildah("images", "--json", IMAGE))
    told = json.loads(buildah("inspect", "--type", "image", IMAGE))["OCIv1"]
    return {
        "bytes": int(listed["size_bytes"]) if "size_bytes" in listed else size_of(str(listed["size"])),
        "layers": len(told["rootfs"]["diff_ids"]),
        "user": told["config"]["User"],
        "labels": told["config"].get("Labels", {}),
    }


def size_of(text: str) -> int:
    """Bytes of "4.5 GB"."""
    number, unit = text.split()
    return int(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit])


def script(rootfs: Path, command: tuple[str, ...]) -> list[str]:
    """The command in the image, as its user, with a read-only root and volumes where pods have them."""
    place = shlex.quote(str(rootfs))
    variables = {
        "PATH": "/opt/rlad/bin:/usr/local/bin:/usr/bin:/bin",
        **dict.fromkeys(("HOME", "XDG_CACHE_HOME", "HF_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR"), "/tmp"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    told = " ".join(f"{key}={shlex.quote(value)}" for key, value in variables.items())
    lines = [
        "set -e",
        f"mount --bind {place} {place}",
        f"mount -o remount,bind,ro {place}",
        f"mount -t proc proc {place}/proc",
        f"mount -t tmpfs tmpfs {place}/dev",
        *(
            f"touch {place}/dev/{name}; mount --bind /dev/{name} {place}/dev/{name}"
            for name in ("null", "zero", "urandom")
        ),
        f"mkdir {place}/dev/shm",
        *(f"mount -t tmpfs -o mode=1777 tmpfs {place}{each}" for each in WRITABLE),
        f"exec chroot --userspec=1000:100 --groups=100 {place} /usr/bin/env -i {told} {shlex.join(command)}",
    ]
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/bash", "-c", "\n".join(lines)]


def inside(rootfs: Path, *command: str) -> str:
    """What a command in the image prints. Raises CalledProcessError."""
    done = subprocess.run(script(rootfs, command), capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def serving(rootfs: Path, port: int) -> Iterator[str]:
    """The tiny teacher, served by the image as its own command does it, but for the address."""
    command = ("rlad", "serve", "teacher", "--model", "rlad:kk-teacher", "--port", str(port))
    process = subprocess.Popen(
        script(rootfs, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"the teacher ended: {process.stdout.read() if process.stdout else ''}")
            try:
                with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                    break
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"waited {START_LIMIT_S:g} s for the teacher of the image") from None
                time.sleep(0.5)
        yield url
    finally:
        # `unshare` heeds no SIGTERM. Its child is the namespace's first process, with which all others go.
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        process.wait(60)


def scores(rootfs: Path, port: int) -> list[float]:
    """Log-probs of a response of three tokens, by the teacher that the image serves."""
    with serving(rootfs, port) as url:
        body = json.dumps(SEQUENCE).encode()
        asked = urllib.request.Request(f"{url}/v1/score", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            [result] = json.load(answer)["results"]
    return [float(value) for value in result["logprobs"]]


def sbom(rootfs: Path, out: Path) -> None:
    """The image's Python packages as CycloneDX, by a program in an environment of its own."""
    (out / "packages.txt").write_text(inside(rootfs, "python", "-c", _LIST))
    environment = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rlad" / BOM
    tool = environment / "bin" / "cyclonedx-py"
    if not tool.exists():
        venv.create(environment, with_pip=True)
        subprocess.run([str(environment / "bin" / "pip"), "install", "--quiet", BOM], check=True, timeout=600)
    command = [
        str(tool),
        "requirements",
        str(out / "packages.txt"),
        "--output-file",
        str(out / "sbom.cdx.json"),
    ]
    subprocess.run(command, check=True, timeout=120)


if __name__ == "__main__":
    sys.exit(main())
