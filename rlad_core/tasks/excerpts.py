"""What of a text a verdict's reason shows."""


def of_text(text: str) -> str:
    """The beginning of a text for a message, with control characters made visible."""
    shown = text.strip()
    return repr(shown if len(shown) <= 60 else shown[:57] + "...")
