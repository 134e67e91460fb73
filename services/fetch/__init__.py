"""Models brought to where they are read: every byte checked, the revision pinned, an interruption resumed.

In: a model (a hub id, a folder, ``rlad:NAME``) and a folder. Out: the model's files there, and a record of
their revision and checksums. A service whose RLAD_MODELS names the folder above OWNER/NAME reads them without
asking the hub.
Called by: cli.

    files      what is known of a file, its checksum, and the record
    sources    where files come from: the hub or a mirror of it, another folder
    writing    what comes of a file, and what a disk says
    fetching   the folder filled
"""

from services.fetch.fetching import Fetched, fetch
from services.fetch.files import RECORD, FetchError, NoSuchModelError
from services.fetch.sources import source_of

__all__ = ["RECORD", "FetchError", "Fetched", "NoSuchModelError", "fetch", "source_of"]
