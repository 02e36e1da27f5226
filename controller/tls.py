"""The daemon's own certificate, and the authority of those who may post to it, read again when the files change."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path


class Certificates:
    """What connections are wrapped in. ``authority_file`` signs client certificates: one is asked for, and may be missing.

    Raises:
        OSError: a file cannot be read, or holds something else.
    """

    def __init__(self, cert_file: str, key_file: str, authority_file: str = "") -> None:
        self._files = [Path(name) for name in (cert_file, key_file, authority_file) if name]
        self._names = cert_file, key_file, authority_file
        self._stamps = self._read_stamps()
        self._context = self._load()

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """The connection, whose handshake is to be made by whoever serves it: it may take as long as the client likes."""
        return self._newest().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _newest(self) -> ssl.SSLContext:
        """Half of a change, or a file that is gone, leaves it as it was until the next connection."""
        try:
            stamps = self._read_stamps()
            if stamps != self._stamps:
                self._context, self._stamps = self._load(), stamps
        except OSError:
            pass
        return self._context

    def _read_stamps(self) -> list[tuple[int, int]]:
        return [(stat.st_mtime_ns, stat.st_ino) for stat in (file.stat() for file in self._files)]

    def _load(self) -> ssl.SSLContext:
        cert_file, key_file, authority_file = self._names
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(cert_file, key_file)
        if authority_file:
            context.load_verify_locations(authority_file)
            # Probes and scrapers bring none.
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


def certified(connection: socket.socket) -> bool:
    """Whether whoever is connected has shown a certificate of the authority."""
    return isinstance(connection, ssl.SSLSocket) and bool(connection.getpeercert())
