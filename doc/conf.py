"""Sphinx configuration of the skdistill documentation."""

import skdistill

project = "skdistill"
author = "The skdistill developers"
copyright = f"2026, {author}"
version = release = skdistill.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["templates"]
exclude_patterns = ["_build", "templates"]

html_theme = "pydata_sphinx_theme"
html_title = f"skdistill {release}"
html_show_sourcelink = False

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "plot_gallery": False,  # examples train networks: shown here, run by `make demo`
    "download_all_examples": False,
    "write_computation_times": False,
}
