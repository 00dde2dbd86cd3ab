"""aiohttp is imported without the authorities of the system, and what is made afterwards has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import trustme

from proxy.edge.check import Material
from proxy.policy import load
from tests.backends.launch import ROOT, environment

IMPORTING = """
import ssl
from proxy.edge.authorities import authorities_unread
with authorities_unread():
    from aiohttp import connector
told = [connector._SSL_CONTEXT_VERIFIED, connector._SSL_CONTEXT_UNVERIFIED, ssl.create_default_context()]
print(*(len(context.get_ca_certs()) for context in told))
print(connector._SSL_CONTEXT_VERIFIED.verify_mode.name, connector._SSL_CONTEXT_VERIFIED.check_hostname)
"""
POLICY = """
guard:
  jwt:
    sources: [{from: authorization}]
    algorithms: [ES256]
    jwks: {url: "https://issuer.example/jwks.json"}
"""


def trusted(tmp_path: Path) -> str:
    """The file of an authority that is the only one that the system trusts (SSL_CERT_FILE)."""
    file = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return str(file)


def test_aiohttp_reads_no_authorities_when_it_is_imported_and_trusts_nobody(tmp_path: Path):
    env = environment(SSL_CERT_FILE=trusted(tmp_path), SSL_CERT_DIR=str(tmp_path / "none"))
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTING], env=env, cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert ran.stdout.split() == ["0", "0", "1", "CERT_REQUIRED", "True"]


def test_a_key_set_without_authorities_of_its_own_is_trusted_by_those_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", trusted(tmp_path))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    jwt = load(str(policy)).default.settings.guard.jwt
    assert jwt is not None
    material = Material.read(jwt, os.environ)
    assert material.tls is not None
    assert len(material.tls.get_ca_certs()) == 1
    assert material.tls.check_hostname
