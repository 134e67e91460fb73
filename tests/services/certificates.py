"""Certificates for localhost, made by openssl."""

import subprocess
from pathlib import Path


def make_certificate(folder: Path, passphrase: str = "") -> tuple[Path, Path]:
    """The files of one and of its key, in PEM format.

    Args:
        passphrase: that the key is encrypted with.
    """
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    secret = ["-passout", f"pass:{passphrase}"] if passphrase else ["-nodes"]
    subprocess.run(
        [*command.split(), *secret, "-out", str(certificate), "-keyout", str(key)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return certificate, key
