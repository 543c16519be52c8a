"""HTML that is always escaped: anything that is not an `Html` is text."""

from html import escape


class Html(str):
    """Markup that is safe to put into a page unchanged."""

    __slots__ = ()


def text(*children: object) -> Html:
    """Join children, leaving out None."""
    return Html("".join(c if isinstance(c, Html) else escape(str(c)) for c in children if c is not None))


def tag(name: str, *children: object, **attributes: object) -> Html:
    """Return an element.

    `class_` means class, `data_row` data-row; True gives a bare attribute, None and False give none.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is True:
            parts.append(key.rstrip("_").replace("_", "-"))
        elif value is not None and value is not False:
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(str(value))}"')
    if name in ("input", "br", "path", "circle", "meta", "img"):
        return Html(f"<{' '.join(parts)}>")
    return Html(f"<{' '.join(parts)}>{text(*children)}</{name}>")


def section(name: str, title: str, *parts: Html | None) -> Html:
    """Return a section with its heading."""
    heading = tag("h2", title, id=f"{name}-title")
    return tag("section", heading, *parts, aria_labelledby=f"{name}-title")


def titled(title: str, body: Html | None) -> Html | None:
    """Return a title with what is below it; None if nothing is."""
    return text(tag("h3", title), body) if body else None
