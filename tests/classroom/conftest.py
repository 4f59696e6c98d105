"""A page of headless Chromium in a given colour scheme."""

import pytest


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    from coursekit.classroom.machine import find_tool

    with sync_playwright() as playwright:
        # the sandbox does not start for root, which containers are
        browser = playwright.chromium.launch(executable_path=find_tool("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browser_page(chromium):
    pages = []

    def open_page(scheme: str):
        pages.append(chromium.new_page(color_scheme=scheme))
        return pages[-1]

    yield open_page
    for page in pages:
        page.close()
