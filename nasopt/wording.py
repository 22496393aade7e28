"""How numbers that a user gave are written back."""

DECIMALS = 4


def format_share(share: float) -> str:
    """A share in percent as it was given: one decimal, or as many as it needs, at most four."""
    text = f"{share:.{DECIMALS}%}".removesuffix("%")
    whole, decimals = text.split(".")
    return f"{whole}.{decimals.rstrip('0') or '0'}%"
