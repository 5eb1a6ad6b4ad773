"""Formulas as MathML, which browsers draw by themselves.

Sphinx's own renderers load MathJax from a network or need a LaTeX installation.  The
conversion is that of docutils.
"""

import re

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


def _convert(node, as_block):
    try:
        found = latex2mathml.tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        logger.warning("cannot draw the formula: %s", error, location=node)
        return ""
    # docutils takes the index of a letter with an accent for a limit.
    if re.search(r"<munderover>\s*<mi>", found):
        logger.warning(
            "an index would be drawn below its letter: write \\hat{x}{}_i",
            location=node,
        )
    return found


def visit_math(translator, node):
    """Write a formula in a line of text."""
    translator.body.append(_convert(node, as_block=False))
    raise nodes.SkipNode


def visit_math_block(translator, node):
    """Write a formula of its own, with its number if it has one."""
    number = f'<span class="eqno">({node["number"]})</span>' if node["number"] else ""
    # A wide formula scrolls: by the keyboard only where it takes the focus.
    start = translator.starttag(node, "div", CLASS="math-block", tabindex="0")
    translator.body.append(start)
    translator.body.append(_convert(node, as_block=True) + number + "</div>\n")
    raise nodes.SkipNode


def setup(app):
    """Tell Sphinx of the renderer."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
