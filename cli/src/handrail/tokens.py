"""The development issuer: a key pair in the data folder, its public half as a JWKS file for the gateway."""

import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ISSUER, AUDIENCE, KEY_ID = "handrail-dev", "handrail", "dev-1"


def ensure_keys(folder: Path) -> Path:
    """The JWKS file; makes the key pair on first use. The private half is readable by its owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    private, jwks = folder / "private.pem", folder / "jwks.json"
    if not private.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        public = json.loads(ECAlgorithm.to_jwk(key.public_key()))
        jwks.write_text(json.dumps({"keys": [public | {"kid": KEY_ID, "use": "sig", "alg": "ES256"}]}))
    return jwks


def ensure_secret(folder: Path, name: str) -> str:
    """A random text that is kept under this name; made on first use, readable by its owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text().strip()


def mint(
    folder: Path, *, user: str, organization: str, project: str, ttl: int, roles: Sequence[str] = ("admin",)
) -> str:
    """A bearer token of the development issuer; `ttl` in seconds."""
    ensure_keys(folder)
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user,
        "organization_id": organization,
        "project_id": project,
        "roles": list(roles),
        "iat": now,
        "exp": now + ttl,
    }
    return jwt.encode(claims, (folder / "private.pem").read_bytes(), algorithm="ES256", headers={"kid": KEY_ID})
