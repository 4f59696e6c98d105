"""A page of headless Chromium in a given colour scheme."""

import pytest


@pytest.fixture
def browser_page(browser):
    pages = []

    def open_page(scheme: str):
        pages.append(browser.new_page(color_scheme=scheme))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()
