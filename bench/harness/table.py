"""Tables for terminals and for Markdown. Rows are lists of strings; the first column is text, the others are numbers."""


def render(title, header, rows, markdown=False):
    if markdown:
        lines = [f"### {title}", "", _bar(header), _bar(["---"] + ["--:"] * (len(header) - 1))]
        return "\n".join(lines + [_bar(row) for row in rows]) + "\n"
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [title, _spaced(header, widths), "  ".join("-" * width for width in widths)]
    return "\n".join(lines + [_spaced(row, widths) for row in rows]) + "\n"


def number(value, digits=0):
    """1234567.8 as 1,234,568; nothing measured as a dash."""
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio(value):
    return "-" if value is None else f"{value:.2f}x"


def _bar(cells):
    return "| " + " | ".join(cells) + " |"


def _spaced(row, widths):
    cells = [row[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
    return "  ".join(cells).rstrip()
