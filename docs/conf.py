"""Configuration of Sphinx; build the pages with ``make docs``."""

import bsm_core

project = "bsm"
author = "The bsm developers"
version = release = bsm_core.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
napoleon_use_ivar = True

copybutton_exclude = ".linenos, .gp, .go"  # prompts and output are shown, and not copied

html_theme = "furo"
html_title = "bsm"
html_favicon = "_static/icon.svg"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
