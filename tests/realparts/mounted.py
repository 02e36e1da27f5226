"""A ConfigMap as the kubelet mounts it into a pod."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class Mounted:
    """The files of a ConfigMap: they link through `..data`, a link that another is put in the place of.

    ``path`` is the file of the key that it begins with.
    """

    def __init__(self, folder: Path, text: str, key: str = "config.yaml") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._key, self._number = folder, key, 0
        self._data: dict[str, str] = {}
        self.path = folder / key
        self.replace({key: text})

    def update(self, text: str) -> None:
        """Give its file another content."""
        self.replace({**self._data, self._key: text})

    def replace(self, data: Mapping[str, str]) -> None:
        """Give the whole ConfigMap another content, all at once; links of new keys follow, those of gone ones go."""
        self._number += 1
        content = self._folder / f"..{self._number:04}"
        content.mkdir()
        for key, text in data.items():
            (content / key).write_text(text, encoding="utf-8")
        fresh = self._folder / "..data_tmp"
        fresh.symlink_to(content.name)
        fresh.replace(self._folder / "..data")
        for key in data.keys() - self._data.keys():
            (self._folder / key).symlink_to(f"..data/{key}")
        for key in self._data.keys() - data.keys():
            (self._folder / key).unlink()
        self._data = dict(data)
