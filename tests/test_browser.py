"""The main notebook in JupyterLab, as `make lab` opens it in a browser."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from playwright import sync_api
from test_notebooks import BROWSER, NOTEBOOKS, ROOT, check_run

pytestmark = pytest.mark.skipif(
    not BROWSER, reason="needs make, and Chromium, Chrome or Edge"
)
MAIN = NOTEBOOKS[0].name
MINUTE = 60_000
FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
)
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells on the page
    "docmanager-extension/plugin": {"autosaveInterval": 1},  # if it were on
    "apputils-extension/notification": {"fetchNews": "false"},
}
KERNEL_INFO = """async () => {
    const session = jupyterapp.shell.currentWidget.context.sessionContext;
    await session.ready;
    const info = await session.session.kernel.info;
    return info.language_info.version;
}"""
ENDED = """() => {
    const panel = document.querySelector(".jp-NotebookPanel");
    const prompts = [...panel.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
    return panel.querySelector("[data-mime-type='application/vnd.jupyter.error']")
        || prompts.every(prompt => /\\d/.test(prompt.textContent));
}"""


def wait_for(server, own):
    """What the server writes about itself once it runs."""
    end = time.monotonic() + 180
    while True:
        for path in own.glob("jupyter_runtime_dir/jpserver-*.json"):
            with contextlib.suppress(ValueError):  # half-written
                return json.loads(path.read_text())
        alive = server.poll() is None and time.monotonic() < end
        assert alive, (own / "log").read_text()
        time.sleep(0.2)


@pytest.fixture
def lab(project, tmp_path_factory):
    """The main notebook's address in a copy's `make lab`; no settings of the user's."""
    shutil.copyfile(ROOT / "Makefile", project / "Makefile")
    shutil.copytree(ROOT / "tools/lab", project / "tools/lab")
    own = tmp_path_factory.mktemp("jupyter")
    for name, settings in SETTINGS.items():
        path = own / f"jupyterlab_settings_dir/@jupyterlab/{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    env = {key: value for key, value in os.environ.items() if "MAKE" not in key}
    env |= {name: str(own / name.lower()) for name in FOLDERS}
    env["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), env["PATH"]])
    # this environment as it is: nothing is installed, nothing activated
    command = ["make", "-o", "venv/run.stamp", "lab", "VENV=venv", "ACTIVATE="]
    command += ["ARGS=--no-browser --allow-root --LabApp.expose_app_in_browser=True"]
    with (own / "log").open("w") as log:
        server = subprocess.Popen(
            command,
            cwd=project,
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        told = wait_for(server, own)
        yield f"{told['url']}lab/tree/{MAIN}?token={told['token']}"
        os.kill(told["pid"], signal.SIGTERM)  # its kernels end with it
        server.wait(60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)


@pytest.fixture
def page():
    """A page of the browser."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER)
        page = browser.new_page()
        page.set_default_timeout(MINUTE)
        yield page
        browser.close()


def open_notebook(page, address):
    """Open it; the version of its kernel's Python, once JupyterLab knows it."""
    page.goto(address)
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
    version = page.evaluate(KERNEL_INFO)
    page.wait_for_timeout(3000)
    return version


def is_marked_as_modified(page):
    return page.locator(".lm-DockPanel-tabBar .jp-mod-dirty").count() > 0


@pytest.mark.parametrize("saved_by", ["committed", "3.10.0"])
def test_another_python_opens_it_unmodified(lab, project, page, saved_by):
    path = project / MAIN
    if saved_by != "committed":
        text = path.read_text("utf-8")
        text, count = re.subn(r'("version": )"[\d.]+"', rf'\1"{saved_by}"', text)
        assert count == 1
        path.write_text(text, "utf-8")
    before = path.read_bytes()
    assert open_notebook(page, lab) == ".".join(map(str, sys.version_info[:3]))
    assert not is_marked_as_modified(page)
    assert path.read_bytes() == before


def test_jupyterlab_runs_it_from_first_to_last_cell_on_the_sample(lab, project, page):
    path = project / MAIN
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += '\nDATA, QUICK = "sample", True'
    nbformat.write(notebook, path)
    before = path.read_bytes()

    open_notebook(page, lab)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(ENDED, timeout=20 * MINUTE, polling=2000)
    assert is_marked_as_modified(page)
    assert path.read_bytes() == before, "only the user saves"
    page.keyboard.press("Control+s")
    page.locator(".lm-DockPanel-tabBar .jp-mod-dirty").wait_for(state="detached")
    done = nbformat.read(path, as_version=4)
    check_run(project, path, done)

    panel = page.locator(".jp-NotebookPanel")
    text = "\n".join(cell.source for cell in done.cells if cell.cell_type == "markdown")
    for heading in re.findall(r"^#{1,3} (.*)", text, re.MULTILINE):
        assert panel.get_by_role("heading", name=heading).count() == 1, heading
    table = panel.get_by_role("table").filter(has_text="Hyperparameters").last
    rows = table.locator("tbody tr").all_inner_texts()
    assert [row.split(" =")[0].split(":")[0] for row in rows] == [
        *(f"Run {number}" for number in range(1, 8)),
        "Main network",
    ]
    widths = panel.locator(".jp-OutputArea img").evaluate_all(
        "pictures => pictures.map(picture => picture.naturalWidth)"
    )
    alternatives = [  # JupyterLab leaves them in the file
        output.metadata["image/png"]["alt"]
        for cell in done.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(widths) == len(alternatives) > 10
    assert all(widths) and all(alternatives)
    last = panel.locator(".jp-CodeCell").last.locator(".jp-OutputArea-output")
    assert "results.json" in last.last.inner_text()
