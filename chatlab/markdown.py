"""Markdown: what a model writes, as HTML that cannot do any harm.

In: Markdown, whole or still growing. Out: HTML of a few harmless elements. Knows nothing of who wrote it.
"""

from __future__ import annotations

from functools import cache

import nh3
from markdown_it import MarkdownIt

__all__ = ["markdown_html"]

# No links that could be clicked by mistake, no images that would be fetched, no styles, no ids.
TAGS = {"p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li"} | {
    *("h1", "h2", "h3", "h4", "h5", "h6"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


def markdown_html(text: str) -> str:
    r"""Return Markdown as HTML; markup in it is shown as text, and whatever else a page could act on is left out.

    >>> markdown_html("**Paris**, <script>of course</script>.")
    '<p><strong>Paris</strong>, &lt;script&gt;of course&lt;/script&gt;.</p>\n'
    >>> markdown_html("[here](http://example.com) ![picture](http://example.com/x.png)")
    '<p>here </p>\n'
    """
    return nh3.clean(_reader().render(text), tags=TAGS, attributes={})


@cache
def _reader() -> MarkdownIt:
    # Single line ends count, as in every chat; markup is text.
    return MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
