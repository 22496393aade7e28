"""How numbers are written for people."""

DECIMALS = 4


def format_share(share: float) -> str:
    """A share that a user gave, in percent: one decimal, or as many as it needs, at most four."""
    text = f"{share:.{DECIMALS}%}".removesuffix("%")
    whole, decimals = text.split(".")
    return f"{whole}.{decimals.rstrip('0') or '0'}%"


def number_of(n: int, noun: str) -> str:
    """So many of something: ``1 training``, ``2,000 trainings``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
