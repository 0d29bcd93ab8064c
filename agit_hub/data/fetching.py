"""Fetching files before they are needed."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from agit_hub.data.errors import PicturesError
from agit_hub.data.stores import Store

# Files fetched at the same time, where all are wanted.
_CONNECTIONS = 8


def fetch_ahead(store: Store, file: str) -> None:
    """Fetch a file in the background. Whoever needs it then hears of any trouble."""
    if not store.fetches:
        return

    def fetch() -> None:
        try:
            store.fetch(file)
        except PicturesError:
            return

    threading.Thread(target=fetch, daemon=True).start()


def fetch_all(store: Store, files: Sequence[str]) -> None:
    """Fetch files now, several at a time.

    Raises:
        PicturesError: The first trouble.
    """
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(store.fetch, files))
