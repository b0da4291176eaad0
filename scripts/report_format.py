"""Numbers as text, the same in HTML and Markdown."""

UNKNOWN = "n/a"


def figures(value, digits=3):
    """`digits` significant figures without an exponent; n/a for None."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    decimals = digits - len(f"{abs(value):.0f}") if abs(value) >= 1 else digits + leading_zeros(value)
    return f"{value:.{max(0, decimals)}f}"


def leading_zeros(value):
    """Zeros after the point: 0.05 has one."""
    zeros, value = 0, abs(value)
    while value < 0.1 and zeros < 9:
        value *= 10
        zeros += 1
    return zeros


def percent(share, decimals=1):
    return UNKNOWN if share is None else f"{100 * share:.{decimals}f} %"


def signed(share, decimals=1):
    return UNKNOWN if share is None else f"{100 * share:+.{decimals}f} %".replace("-", "\N{MINUS SIGN}")


def span(low_high, form):
    """An interval: `2.61 to 2.75`, `63.0 to 65.9 %`."""
    if low_high is None:
        return ""
    low, high = map(form, low_high)
    unit = high.partition(" ")[2]
    return f"{low.removesuffix(' ' + unit) if unit else low} to {high}"


def size(value):
    """A number of MiB without its unit."""
    return UNKNOWN if value is None else f"{value:.6g}"


def mib(value):
    return UNKNOWN if value is None else f"{size(value)} MiB"


def slug(text):
    """A name for an element or file."""
    kept = "".join(c if c.isalnum() and c.isascii() else "-" for c in text.lower())
    return "-".join(part for part in kept.split("-") if part)
