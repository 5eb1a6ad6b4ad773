"""Sphinx configuration of the skdistill documentation."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import skdistill

# Matplotlib draws the examples' pictures into files.
os.environ.setdefault("MPLBACKEND", "agg")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

project = "skdistill"
author = "The skdistill developers"
copyright = f"2026, {author}"
version = release = skdistill.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "public_names",
]
templates_path = ["templates"]
exclude_patterns = ["_build", "extensions", "templates"]

# References that lead nowhere are warnings, which `make doc` turns into errors.  The
# documentation is built without a network: names of other projects stay text, unless
# SKDISTILL_DOC_ONLINE asks for the inventories that make links of them.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", rf"{module}(\..*)?")
    for module in ("joblib", "matplotlib", "numpy", "pandas", "sklearn", "torch")
]
if os.environ.get("SKDISTILL_DOC_ONLINE"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "joblib": ("https://joblib.readthedocs.io/en/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "python": ("https://docs.python.org/3", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
    }

html_theme = "pydata_sphinx_theme"
html_title = "skdistill"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["skdistill.css"]
html_show_sourcelink = False
html_show_sphinx = False
# What the theme asks for in the console of a browser.
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {
        "text": "skdistill",
        "image_light": "_static/favicon.svg",
        "image_dark": "_static/favicon.svg",
        "alt_text": "",  # the name stands beside it
    },
    "header_links_before_dropdown": 5,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    # High contrast in both: the comments of the defaults are faint.
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
# These pages have no neighbors to list beside them.
html_sidebars = {
    page: [] for page in ("index", "tutorial", "changelog", "citing", "search")
}

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
# A prompt, and what it printed, is not copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# The demo is too long for a build: it is shown, with the pictures that it made.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "within_subsection_order": "FileNameSortKey",
    "filename_pattern": r"plot_(?!discover_galaxies)",
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
    "write_computation_times": False,
    "abort_on_example_error": True,
}
# What a plot_gallery=0 build shows for examples that it did not run is no news.
suppress_warnings = ["config.cache"]  # sphinx-gallery's settings hold functions

# Examples print what skdistill warns of; libraries' deprecations are not for readers.
warnings.filterwarnings("ignore", category=DeprecationWarning)


def write_unreleased_changes(app):
    """Render the fragments of changes that no release has yet.

    Not where the page has the section of the version to come already: that one is
    written by hand, and says what the version has instead of how it came to be.
    """
    path = HERE / "unreleased.inc"
    title = f"Version {release.partition('.dev')[0]} ("
    if title in (HERE / "changelog.rst").read_text(encoding="utf-8"):
        write_changed(path, "")
        return
    command = [sys.executable, "-m", "towncrier", "build", "--draft"]
    command += ["--version", release, "--date", "in development"]
    draft = subprocess.run(
        command,
        cwd=HERE.parent,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    write_changed(path, draft)


def write_changed(path, text):
    """Write a file, but not one that stays the same: Sphinx would read it again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app):
    """Have Sphinx call what is above."""
    app.connect("builder-inited", write_unreleased_changes)
