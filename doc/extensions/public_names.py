"""References to a public name by another name than that of its page.

Docstrings say where a class lives, ``skdistill.metrics.evaluate_synthetic``, or its
name alone; its page is that of the name to import, ``skdistill.evaluate_synthetic``.
"""


def resolve(app, env, node, contents):
    """Look for a reference that leads nowhere among the names of the package."""
    if node.get("refdomain") != "py":
        return None
    parts = node.get("reftarget", "").removeprefix("skdistill.").split(".")
    for candidate in (parts, parts[1:]):
        found = candidate and env.get_domain("py").resolve_xref(
            env,
            node["refdoc"],
            app.builder,
            node["reftype"],
            ".".join(["skdistill", *candidate]),
            node,
            contents,
        )
        if found:
            return found
    return None


def setup(app):
    """Tell Sphinx of the resolver."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
