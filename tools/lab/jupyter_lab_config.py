"""What `make lab` adds to JupyterLab: a notebook opens unmodified under any Python."""

import platform

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager


class Contents(AsyncLargeFileManager):
    """Files as they are, but notebooks name the Python at work.

    JupyterLab marks a notebook as modified where another version stands in it. What
    lies on the disk is not changed before the user saves.
    """

    async def get(self, *arguments, **options) -> dict:
        """Give a file; a notebook with the version that its kernel will report."""
        model = await super().get(*arguments, **options)
        if model["type"] == "notebook" and model["content"]:
            language = model["content"]["metadata"].get("language_info", {})
            if language.get("name") == "python":
                language["version"] = platform.python_version()
        return model


c = get_config()  # noqa: F821
c.ServerApp.contents_manager_class = Contents
