"""References to a public name by the subpackage that it comes from.

Docstrings say where a class lives, ``skdistill.metrics.evaluate_synthetic``; its page
is that of the name that users import, ``skdistill.evaluate_synthetic``.
"""


def resolve(app, env, node, contents):
    """Look for a reference that leads nowhere among the names of the package."""
    target = node.get("reftarget") or ""
    parts = target.split(".")
    if node.get("refdomain") != "py" or parts[0] != "skdistill" or len(parts) < 3:
        return None
    return env.get_domain("py").resolve_xref(
        env,
        node["refdoc"],
        app.builder,
        node["reftype"],
        ".".join([parts[0], *parts[2:]]),
        node,
        contents,
    )


def setup(app):
    """Tell Sphinx of the resolver."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
