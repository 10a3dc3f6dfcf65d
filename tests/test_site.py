"""The built site in a browser: code is copied without prompts and output, search finds pages, nothing is loaded."""

from __future__ import annotations

import functools
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.browsers import browser as browser

DOCS = Path(__file__).parents[1] / "docs"
FIRST = """# First

![The road](images/road.svg)

```console
$ bsm run --id-field id \\
      --data-dir a.csv
... INFO 2 rows
$ echo $?
0
```

```pycon
>>> def double(x):
...     return 2 * x
>>> double(4)
8
```

```bash
bsm doctor    # what works here
```

```{toctree}
:caption: Group

second
```
"""
COPIED = [
    "bsm run --id-field id \\\n      --data-dir a.csv\necho $?",
    "def double(x):\n    return 2 * x\ndouble(4)",
    "bsm doctor    # what works here",
]


class Quiet(SimpleHTTPRequestHandler):
    """Handler that logs nothing."""

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    """Address of two pages, built with the configuration of the documentation."""
    build = pytest.importorskip("sphinx.cmd.build", reason="needs Sphinx").build_main
    pytest.importorskip("sphinx_copybutton")
    source, built = tmp_path_factory.mktemp("docs"), tmp_path_factory.mktemp("site")
    for folder in ("_static", "images"):
        shutil.copytree(DOCS / folder, source / folder)
    shutil.copy(DOCS / "conf.py", source)
    (source / "index.md").write_text(FIRST)
    (source / "second.md").write_text("# Second\n\nOn resuming interrupted quokkas.\n")
    assert build(["--quiet", "--fail-on-warning", str(source), str(built)]) == 0
    handler = functools.partial(Quiet, directory=str(built))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def opened(browser, site):
    """A page that fails the test if it writes to the console, or asks for anything outside of the site."""
    page: Any = browser.new_page(viewport={"width": 1400, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(site) else said.append(request.url))
    yield page
    page.close()
    assert said == []


def test_code_is_copied_without_prompts_and_output(opened, site):
    opened.goto(f"{site}/index.html")
    opened.evaluate(
        "document.addEventListener('copy', event => window.copied = String(getSelection()) || event.target.value)"
    )
    buttons = opened.locator("button.copybtn")
    assert buttons.count() == len(COPIED)
    for i, expected in enumerate(COPIED):
        buttons.nth(i).click(force=True)
        copied = opened.evaluate("window.copied")
        assert re.sub(r"\n\s*\n", "\n", copied).strip() == expected


@pytest.mark.parametrize("words", ["quokkas", "resume quokka"])
def test_search_finds_a_page_by_its_words(opened, site, words):
    opened.goto(f"{site}/search.html?q={words.replace(' ', '+')}")
    opened.locator("#search-results .search li").first.wait_for()
    found = opened.locator("#search-results .search li a").evaluate_all("all => all.map(e => e.textContent)")
    assert found == ["Second"]


def test_the_picture_of_the_first_page_stands_beside_the_text_where_there_is_room(opened, site):
    places = []
    for width in (1400, 360):
        opened.set_viewport_size({"width": width, "height": 900})
        opened.goto(f"{site}/index.html")
        image = opened.locator("article img")
        assert image.evaluate("e => e.naturalWidth") > 0
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        places.append(image.evaluate("e => getComputedStyle(e).float"))
    assert places == ["right", "none"]
