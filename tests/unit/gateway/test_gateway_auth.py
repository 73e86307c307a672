"""Who is let in: good tokens, and a corpus of bad ones."""

import base64
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from handrail_gateway.identity.caller import Caller
from handrail_gateway.identity.jwks import FileKeys, parse_keys
from handrail_gateway.identity.tokens import Tokens
from handrail_gateway.problems import Problem
from unit.gateway.builders import Issuer

issuer = Issuer()
authenticator = issuer.authenticator()


async def caller(sent: dict[str, list[str]]) -> Caller:
    lines = [(name.encode(), value.encode()) for name, values in sent.items() for value in values]
    return await authenticator.caller({"type": "http", "headers": lines})


def headers(token: str, **more: str) -> dict[str, list[str]]:
    return {"authorization": [f"Bearer {token}"], **{name.replace("_", "-"): [value] for name, value in more.items()}}


def _b64(data: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(data)).decode().rstrip("=")


def _unsigned(header: dict[str, Any]) -> str:
    return f"{_b64(header)}.{_b64(issuer.claims())}."


def _public_pem() -> bytes:
    key: ec.EllipticCurvePublicKey = issuer.private.public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _hmac_with_public_key() -> str:
    """The classic: an HS256 token whose secret is the public key."""
    import hashlib
    import hmac

    signed = f"{_b64({'alg': 'HS256', 'kid': 'k1', 'typ': 'JWT'})}.{_b64(issuer.claims())}"
    digest = hmac.new(_public_pem(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _tampered() -> str:
    head, _, signature = issuer.token().split(".")
    return f"{head}.{_b64(issuer.claims(sub='root'))}.{signature}"


def _doubled(part: int) -> str:
    """A good signature over a header or a payload that says one thing twice."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    texts = [orjson.dumps({"alg": "ES256", "kid": "k1"}), orjson.dumps(issuer.claims())]
    texts[part] = b'{"kid":"k0",' + texts[part][1:] if part == 0 else b'{"sub":"eve",' + texts[part][1:]
    signed = b".".join(base64.urlsafe_b64encode(text).rstrip(b"=") for text in texts)
    r, s = decode_dss_signature(issuer.private.sign(signed, ec.ECDSA(hashes.SHA256())))
    signature = base64.urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).rstrip(b"=")
    return (signed + b"." + signature).decode()


NOW = int(time.time())
OTHER = ec.generate_private_key(ec.SECP256R1())
BAD = {
    "empty": "",
    "not a token": "abc",
    "two dots": "..",
    "alg none": _unsigned({"alg": "none", "kid": "k1"}),
    "alg None": _unsigned({"alg": "None", "kid": "k1"}),
    "alg nOnE without kid": _unsigned({"alg": "nOnE"}),
    "no alg": _unsigned({"kid": "k1"}),
    "alg is a list": _unsigned({"alg": ["ES256"], "kid": "k1"}),
    "HS256 with the public key": _hmac_with_public_key(),
    "HS256": jwt.encode(issuer.claims(), "s" * 64, algorithm="HS256", headers={"kid": "k1"}),
    "HS512": jwt.encode(issuer.claims(), "s" * 64, algorithm="HS512", headers={"kid": "k1"}),
    "ES384": jwt.encode(issuer.claims(), ec.generate_private_key(ec.SECP384R1()), "ES384", headers={"kid": "k1"}),
    "RS512 of our RSA key": issuer.token(key=issuer.rsa, algorithm="RS512", headers={"kid": "r1"}),
    "PS256 of our RSA key": issuer.token(key=issuer.rsa, algorithm="PS256", headers={"kid": "r1"}),
    "other key, our kid": issuer.token(key=OTHER),
    "our key, other kid": issuer.token(headers={"kid": "k2"}),
    "kid of the key of another algorithm": issuer.token(headers={"kid": "r1"}),
    "kid is a path": issuer.token(headers={"kid": "../../etc/passwd"}),
    "kid is empty": issuer.token(headers={"kid": ""}),
    "key in the header": issuer.token(key=OTHER, headers={"kid": "new", "jwk": issuer.jwks()["keys"][0]}),
    "key by URL": issuer.token(key=OTHER, headers={"kid": "new", "jku": "http://127.0.0.1/jwks"}),
    "crit": issuer.token(headers={"crit": ["exp"], "exp": 1}),
    "a claim twice": _doubled(1),
    "a header parameter twice": _doubled(0),
    "tampered": _tampered(),
    "cut": issuer.token()[:-4],
    "doubled": issuer.token() + "." + issuer.token(),
    "expired": issuer.token(exp=NOW - 61),
    "expired long ago": issuer.token(exp=1),
    "no exp": issuer.token(exp=None),
    "exp is text": issuer.token(exp="tomorrow"),
    "exp is huge": issuer.token(exp=10**400),
    "no aud": issuer.token(aud=None),
    "other aud": issuer.token(aud="billing"),
    "aud with ours inside": issuer.token(aud="handrail-admin"),
    "no iss": issuer.token(iss=None),
    "other iss": issuer.token(iss="handrail"),
    "part of iss": issuer.token(iss="handrail-de"),
    "no sub": issuer.token(sub=None),
    "empty sub": issuer.token(sub=""),
    "sub of an API key": issuer.token(sub="key:9c1e5a7b3d2f4860"),
    "not yet": issuer.token(nbf=NOW + 3600),
    "from the future": issuer.token(iat=NOW + 3600),
    "huge": issuer.token(padding="x" * 20_000),
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD.keys())
async def test_a_bad_token_is_refused(token: str) -> None:
    with pytest.raises(Problem) as refused:
        await caller(headers(token))
    assert refused.value.status == 401
    assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(BAD) >= 30


@pytest.mark.parametrize(
    ("shift", "claims"),
    [
        ({}, {}),
        ({"exp": -30}, {}),
        ({"nbf": 30}, {}),
        ({}, {"aud": ["other", "handrail"]}),
        ({}, {"key": issuer.rsa, "algorithm": "RS256", "headers": {"kid": "r1"}}),
    ],
    ids=["fresh", "30 s over", "30 s early", "several audiences", "RSA"],
)
async def test_a_good_token_names_its_caller(shift: dict[str, Any], claims: dict[str, Any]) -> None:
    moved: dict[str, Any] = {name: int(time.time()) + seconds for name, seconds in shift.items()}
    found = await caller(headers(issuer.token(**moved, **claims)))
    assert (found.user_id, found.organization_id, found.project_id) == ("ada", "acme", "apollo")


@pytest.mark.parametrize(
    "sent", [{}, {"authorization": []}, {"authorization": ["Basic YTpi"]}, {"authorization": ["Bearer a", "Bearer b"]}]
)
async def test_without_one_bearer_header_nobody_comes_in(sent: dict[str, list[str]]) -> None:
    with pytest.raises(Problem) as refused:
        await caller(sent)
    assert refused.value.status == 401


async def test_tenant_headers_select_among_what_the_token_allows() -> None:
    token = issuer.token(organizations=["acme", "umbrella"], projects=["hermes"])
    chosen = await caller(headers(token, x_elevaite_organizationid="umbrella", x_elevaite_projectid="hermes"))
    assert (chosen.organization_id, chosen.project_id) == ("umbrella", "hermes")


@pytest.mark.parametrize(
    "header", [{"x_elevaite_organizationid": "umbrella"}, {"x_elevaite_projectid": ""}, {"x_elevaite_userid": "root"}]
)
async def test_tenant_headers_never_widen(header: dict[str, str]) -> None:
    with pytest.raises(Problem) as refused:
        await caller(headers(issuer.token(), **header))
    assert refused.value.status == 403


async def test_a_tenant_header_sent_twice_is_refused() -> None:
    sent = headers(issuer.token(), x_elevaite_projectid="apollo")
    sent["x-elevaite-projectid"].append("other")
    with pytest.raises(Problem) as refused:
        await caller(sent)
    assert refused.value.status == 403


@pytest.mark.parametrize(("claims", "status"), [({"organization_id": None}, 403), ({"project_id": 7}, 403)])
async def test_a_token_without_a_tenant_gets_none_by_default(claims: dict[str, Any], status: int) -> None:
    with pytest.raises(Problem) as refused:
        await caller(headers(issuer.token(**claims)))
    assert refused.value.status == status


async def test_of_several_tenants_one_must_be_named() -> None:
    token = issuer.token(organization_id=None, organizations=["acme", "umbrella"])
    with pytest.raises(Problem) as refused:
        await caller(headers(token))
    assert (refused.value.status, refused.value.code) == (400, "TENANT_REQUIRED")


def test_symmetric_and_weak_keys_of_a_jwks_are_not_used() -> None:
    weak = orjson.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key()))
    with pytest.raises(ValueError, match="holds no"):
        parse_keys(orjson.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}, {**weak, "kid": "w"}]}))


async def test_a_changed_key_file_is_read_again(tmp_path: Any) -> None:
    import os

    path = issuer.write(tmp_path / "jwks.json")
    keys = FileKeys.load(path)
    later = Issuer()
    later.write(path)
    os.utime(path, ns=(1, 1))
    keys._looked = 0.0
    found = await Tokens(keys, "handrail-dev", "handrail").caller(later.token(), {})
    assert found.user_id == "ada"


async def test_a_token_that_was_good_is_looked_at_again_when_its_key_or_its_time_is_over() -> None:
    keys = FileKeys(Path("unused"), parse_keys(orjson.dumps(issuer.jwks())), _looked=float("inf"))
    tokens, token = Tokens(keys, "handrail-dev", "handrail"), issuer.token(exp=int(time.time()) + 100)
    for _ in range(2):
        assert (await tokens.caller(token, {})).user_id == "ada"
    with patch("handrail_gateway.identity.tokens.time.time", lambda: 2.0**40), patch("jwt.decode") as looked_at:
        looked_at.side_effect = jwt.ExpiredSignatureError
        with pytest.raises(Problem):
            await tokens.caller(token, {})
    keys._keys = parse_keys(orjson.dumps(Issuer().jwks()))
    with pytest.raises(Problem):
        await tokens.caller(token, {})


def test_without_a_key_file_the_gateway_does_not_start(tmp_path: Any) -> None:
    with pytest.raises(SystemExit, match="HANDRAIL_AUTH_JWKS_FILE"):
        FileKeys.load(tmp_path / "none.json")
