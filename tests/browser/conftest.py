"""One headless Chromium for all tests of a worker."""

import pytest

from coursekit.publish.slide_handout import sandbox_arguments
from coursekit.publish.slide_marp import find_chromium


@pytest.fixture(scope="session")
def browser():
    """Playwright's browser: `browser.new_page(...)`; close the page, or its context, when done."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=sandbox_arguments())
        yield chromium
        chromium.close()
