"""What is in an image: `python -m deploy.image.contents IMAGE.tar`, for an OCI archive as `make image` writes it.

Prints the digest, the size and the packages, and writes `digest` and `sbom.cdx.json` beside the archive. Exits 1 where
the image is heavier than it may be. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from deploy.image.assemble import SBOM

MAX_COMPRESSED_BYTES = 120_000_000


@dataclass(frozen=True)
class Archive:
    """An OCI image in a tar file, with one layer."""

    path: Path
    digest: str  # of its manifest: what a registry knows it by
    config: dict[str, Any]
    layer: str  # the path of its layer inside the archive
    compressed_bytes: int  # what is pulled: layer, configuration and manifest

    @contextlib.contextmanager
    def tree(self) -> Iterator[tarfile.TarFile]:
        """The root file system, open inside the block."""
        with tarfile.open(self.path) as outer:
            layer = outer.extractfile(self.layer)
            assert layer is not None
            with tarfile.open(fileobj=layer, mode="r:*") as tree:
                yield tree

    def sbom(self) -> dict[str, Any]:
        """The bill of materials that lies in the image. Raises KeyError where there is none."""
        with self.tree() as tree:
            return _json(tree.extractfile(str(SBOM)))


def read(path: Path) -> Archive:
    """Open an archive. Raises ValueError for one of several images or layers."""
    with tarfile.open(path) as outer:

        def blob(digest: str) -> str:
            return f"blobs/{digest.replace(':', '/')}"

        manifests = _json(outer.extractfile("index.json"))["manifests"]
        if len(manifests) != 1:
            raise ValueError(f"{path}: holds {len(manifests)} images; give an archive of one")
        manifest = _json(outer.extractfile(blob(manifests[0]["digest"])))
        if len(manifest["layers"]) != 1:
            raise ValueError(f"{path}: the image has {len(manifest['layers'])} layers; the Dockerfile makes one")
        parts = (manifests[0], manifest["config"], manifest["layers"][0])
        return Archive(
            path,
            manifests[0]["digest"],
            _json(outer.extractfile(blob(manifest["config"]["digest"]))),
            blob(manifest["layers"][0]["digest"]),
            sum(part["size"] for part in parts),
        )


def _json(file: IO[bytes] | None) -> dict[str, Any]:
    assert file is not None
    return dict(json.load(file))


def main() -> int:
    """See the top; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    path: Path = parser.parse_args().archive
    archive = read(path)
    bill = archive.sbom()
    path.with_name("digest").write_text(archive.digest)
    path.with_name("sbom.cdx.json").write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n")
    with archive.tree() as tree:
        unpacked = sum(member.size for member in tree)
    kinds = [component.get("purl", "").partition("/")[0].removeprefix("pkg:") for component in bill["components"]]
    sys.stdout.write(
        f"digest      {archive.digest}\n"
        f"compressed  {archive.compressed_bytes / 1e6:.1f} MB (may be {MAX_COMPRESSED_BYTES / 1e6:.0f})\n"
        f"unpacked    {unpacked / 1e6:.1f} MB\n"
        f"packages    {kinds.count('pypi')} from Python's index, {kinds.count('deb')} from Debian, ours and Python\n"
        f"SBOM        {path.with_name('sbom.cdx.json')}, {bill['serialNumber']}\n"
    )
    if archive.compressed_bytes > MAX_COMPRESSED_BYTES:
        sys.stderr.write(f"{path}: heavier than {MAX_COMPRESSED_BYTES / 1e6:.0f} MB compressed\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
