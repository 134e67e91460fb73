"""Where a model's files come from."""

import fnmatch
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    validate_repo_id,
)

from rlad_core.config import resolve_model
from rlad_core.proxies import through
from services.fetch.files import RECORD, FetchError, File, NoSuchModelError, Record, digest, read_record

_LEFT_OUT = (
    "*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.ot", "*.tflite", "*.mlmodel", "original/*", "onnx/*",
    "coreml/*", "*.md5", ".git*", ".cache/*", RECORD, "*.png", "*.jpg", "*.jpeg", "*.gif", "*.pdf",
)  # fmt: skip
"""Weights for other frameworks, and pictures."""
_PICKLED = ("*.bin", "*.pt", "*.pth")
_PIECE = 2**22


class Source(Protocol):
    """A model somewhere."""

    model: str

    def record(self, revision: str | None) -> Record:
        """Its files at a revision.

        Args:
            revision: a commit, branch or tag; None: the newest.

        Raises:
            NoSuchModelError: there is none.
            FetchError: it cannot be asked.
        """

    def read(self, file: File, revision: str, into: BinaryIO, begun: int) -> None:
        """Write a file's bytes from ``begun`` on, behind those that `into` has.

        Raises:
            FetchError: it broke off; what has come is in `into`.
        """


def source_of(model: str, to: Path | None = None) -> Source:
    """A folder, a model that ships (``rlad:NAME``), or the hub's.

    Args:
        to: the folder that is to be filled. Typed in the folder above OWNER/NAME, a hub id is called like it,
            and still the hub's when that was begun.

    Raises:
        NoSuchModelError: it is none of them.
        FetchError: the folder's record cannot be read.
    """
    folder = Path(model).expanduser()
    is_filled = to is not None and to.is_dir() and folder.is_dir() and folder.samefile(to)
    if (folder.is_dir() and not (is_filled and _is_hub_id(model))) or model.startswith("rlad:"):
        try:
            its = Path(resolve_model(model))
        except ValueError as error:
            raise NoSuchModelError(f"{model or 'MODEL'}: {error}") from error
        if to is not None and its.resolve() in to.resolve().parents:  # what it fills would be its model's too
            raise NoSuchModelError(f"{to} lies in {model}. Write a folder outside of it")
        return FolderSource(model, its)
    return HubSource(model)


class HubSource:
    """A model on the Hugging Face hub, or on the mirror that HF_ENDPOINT names; HF_TOKEN or HF_TOKEN_PATH
    opens those for members.

    Files come by plain HTTP ranges: so they go on where they broke off, whatever the process that began them.
    """

    def __init__(self, model: str, endpoint: str | None = None) -> None:
        self.model = model
        self._endpoint = endpoint or constants.ENDPOINT
        self._api = HfApi(endpoint=self._endpoint)

    def record(self, revision: str | None) -> Record:
        """See `Source`."""
        try:
            commit = self._api.model_info(self.model, revision=revision).sha
            if commit is None:
                raise FetchError(
                    f"{self._endpoint} says no commit of {self.model}. Write another HF_ENDPOINT"
                )
            tree = self._api.list_repo_tree(self.model, recursive=True, revision=commit)
            files = [_file(entry) for entry in tree if isinstance(entry, RepoFile)]
        except HFValidationError as error:
            raise NoSuchModelError(
                f"{self.model!r} is no folder here, and no hub id of the form owner/name"
            ) from error
        except GatedRepoError as error:
            raise NoSuchModelError(
                f"{self.model} is for members. Ask for access on its page, and give a token: HF_TOKEN, or "
                f"a file "
                "that HF_TOKEN_PATH names"
            ) from error
        except RevisionNotFoundError as error:
            raise NoSuchModelError(
                f"{self.model} has no revision {revision}. Write another --revision"
            ) from error
        except RepositoryNotFoundError as error:
            raise NoSuchModelError(
                f"{self._endpoint} has no {self.model}, or shows it to members only (HF_TOKEN, HF_TOKEN_PATH)"
            ) from error
        except OfflineModeIsEnabled as error:
            raise FetchError("HF_HUB_OFFLINE is set, so nothing can be fetched. Unset it here") from error
        except (HTTPError, HfHubHTTPError, OSError) as error:
            raise FetchError(self._broken(error)) from error
        return Record(self.model, commit, tuple(_chosen(files)))

    def read(self, file: File, revision: str, into: BinaryIO, begun: int) -> None:
        """See `Source`."""
        url = hf_hub_url(self.model, file.path, revision=revision, endpoint=self._endpoint)
        try:
            http_get(url, into, resume_size=begun, headers=build_hf_headers(), expected_size=file.size)
        except OfflineModeIsEnabled as error:
            raise FetchError("HF_HUB_OFFLINE is set, so nothing can be fetched. Unset it here") from error
        except (HTTPError, HfHubHTTPError, OSError) as error:
            raise FetchError(f"{file.path}: {self._broken(error)}") from error

    def _broken(self, error: Exception) -> str:
        return (
            f"{self._endpoint} did not answer as a hub does{through(self._endpoint)} "
            f"({type(error).__name__}: {error}). Start again: what has come is kept. "
            "HF_ENDPOINT names a mirror"
        )


class FolderSource:
    """A model in a folder: what `fetch` left there, by the name that it has, or any other in Hugging Face
    layout."""

    def __init__(self, model: str, folder: Path) -> None:
        self._folder, self._known = folder, read_record(folder)
        self.model = model if self._known is None else self._known.model

    def record(self, revision: str | None) -> Record:
        """See `Source`; its files' checksums are its revision where it has none of its own."""
        known = self._known
        if known is None:
            try:
                places = sorted(place for place in self._folder.rglob("*") if place.is_file())
                files = tuple(_chosen(self._file(place) for place in places))
            except OSError as error:
                raise FetchError(_unreadable(error, self._folder)) from error
            summed = hashlib.sha256("".join(f"{f.path}\0{f.checksum}\n" for f in files).encode()).hexdigest()
            known = Record(self.model, summed, files)
        if revision not in (None, known.revision):
            raise NoSuchModelError(f"{self._folder} has revision {known.revision}, not {revision}")
        return known

    def _file(self, place: Path) -> File:
        unsummed = File(place.relative_to(self._folder).as_posix(), place.stat().st_size, "sha256", "")
        return File(unsummed.path, unsummed.size, "sha256", digest(place, unsummed))

    def read(self, file: File, revision: str, into: BinaryIO, begun: int) -> None:
        """See `Source`."""
        try:
            with (self._folder / file.path).open("rb") as opened:
                opened.seek(begun)
                while piece := opened.read(_PIECE):
                    into.write(piece)
        except OSError as error:
            raise FetchError(_unreadable(error, self._folder / file.path)) from error


def _is_hub_id(model: str) -> bool:
    try:
        validate_repo_id(model)
    except HFValidationError:
        return False
    return True


def _unreadable(error: OSError, place: Path) -> str:
    return (
        f"{error.filename or place} cannot be read: {error.strerror or error}. See to it that it may, and "
        "start again"
    )


def _file(entry: RepoFile) -> File:
    if entry.lfs is not None:
        return File(entry.path, entry.lfs.size, "sha256", entry.lfs.sha256)
    return File(entry.path, entry.size, "git-sha1", entry.blob_id)


def _chosen(files: Iterable[File]) -> Iterator[File]:
    """Those that are read: no pickled weights where there are others."""
    kept = [file for file in files if not _matches(file, _LEFT_OUT)]
    if any(file.path.endswith(".safetensors") for file in kept):
        kept = [file for file in kept if not _matches(file, _PICKLED)]
    yield from sorted(kept, key=lambda file: file.path)


def _matches(file: File, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(file.path, pattern) for pattern in patterns)
