"""Text files beside songs."""


def read_text(file: str) -> str:
    """A UTF-8 file, with or without a byte order mark, its line ends made `\\n`.

    Raises ValueError where it is not UTF-8, OSError where it cannot be read.
    """
    with open(file, "rb", buffering=0) as stream:
        content = stream.read()
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8") from error


def why(error: Exception) -> str:
    """What kept a file from being read, to follow its name."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return str(error)
