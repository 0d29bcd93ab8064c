"""What can go wrong with pictures, in a sentence for the person who trains."""


class PicturesError(Exception):
    """Pictures that cannot be had; the message says which, why, and what to do."""

    def __init__(self, message: str) -> None:
        # Out of a loader's worker process an error comes as the text of its traceback.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class DataError(PicturesError, ValueError):
    """The person's to mend: a wrong name, a missing folder, terms that were not accepted."""


class FetchError(PicturesError):
    """The network's fault: it stayed bad for longer than the run was told to wait."""


# Decoding a damaged or hostile file raises almost anything in Pillow's many plugins.
UNREADABLE = Exception
