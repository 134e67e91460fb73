"""Reading docker/Dockerfile: its stages, with their instructions."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"


@dataclass(frozen=True)
class Stage:
    """A stage: what it is built on, and its instructions in their order, without options such as caches."""

    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, keyword: str) -> list[str]:
        return [value for word, value in self.instructions if word == keyword]


def stages_before() -> list[str]:
    """Arguments that are given before the first stage, with their defaults."""
    head = DOCKERFILE.read_text().split("\nFROM ")[0]
    return re.findall(r"^ARG (\S+)$", head, flags=re.MULTILINE)


def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        if not line.strip():
            continue
        word, _, value = line.partition(" ")
        if word == "FROM":
            base, _, name = value.partition(" AS ")
            found[name] = Stage(name, base, ())
            continue
        if not found:  # what is given before the first stage
            continue
        last = next(reversed(found.values()))
        value = re.sub(r"--mount=\S+\s+", "", value)
        found[last.name] = Stage(last.name, last.base, (*last.instructions, (word, value)))
    return found
