"""Processes that are found by the titles which they give themselves."""

import os


def environment_with_titles() -> dict[str, str]:
    """This process's environment, for one whose engines shall have titles.

    A title goes where the process's environment began, which setproctitle finds by its first variable. torch
    sets this one when it compiles anything; Ray may hand it on as the first; and vLLM sets it anew while it
    is imported, in another place. Then there is no title, and nobody says so.
    """
    return {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
